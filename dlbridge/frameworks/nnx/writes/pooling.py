"""Pooling, channels-last."""

from __future__ import annotations

from dlbridge.frameworks.nnx.rules import NNX, rules
from dlbridge.passes.layout import DOMAIN
from dlbridge.source.arrays import pooling
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call
from dlbridge.source.windows import Pads, pads_of


def _pool(function: str, op: Op, pads: Pads) -> Code:
    kernel, strides, count = pooling.kernel_of(op)
    same = None if strides == [1] * count else tuple(strides)
    around = None if all(p == (0, 0) for p in pads) else tuple(pads)
    return call(function, op.x, tuple(kernel), strides=same, padding=around)


@rules("MaxPool", domain=DOMAIN)
def max_pool(op: Op) -> Code:
    kernel, strides, _ = pooling.kernel_of(op)
    pads, dilations = pads_of(op, kernel, first=1), pooling.dilations_of(op, kernel)
    whole = None if pads is None else pooling.with_overhang(op, kernel, strides, pads)
    if dilations is None and whole is not None and op.dtype().is_floating_point():
        return _pool("nnx.max_pool", op, whole)
    x = pooling.padded(op, NNX, kernel, strides, pads, pooling.lowest(op))
    steps = dilations or (1,) * len(kernel)
    return call("jnp.max", call("window_stack", x, tuple(kernel), tuple(strides), steps), axis=0)


@rules("AveragePool", domain=DOMAIN)
def average_pool(op: Op) -> Code:
    kernel, strides, _ = pooling.kernel_of(op)
    pads = pads_of(op, kernel, first=1)
    if pads is not None and _is_plain(op, kernel, strides, pads):
        return _pool("nnx.avg_pool", op, pads)
    return pooling.average_by_formula(op, kernel, strides, pads)


def _is_plain(op: Op, kernel: list[int], strides: list[int], pads: Pads) -> bool:
    """Whether Flax averages so: it counts what is not padding in the widest float type."""
    if pooling.dilations_of(op, kernel) is not None or pooling.with_overhang(op, kernel, strides, pads) != pads:
        return False
    return bool(op.attr("count_include_pad")) or all(p == (0, 0) for p in pads)


@rules("GlobalAveragePool", "GlobalMaxPool", domain=DOMAIN)
def global_pool(op: Op) -> Code:
    function = "jnp.mean" if op.key == "GlobalAveragePool" else "jnp.max"
    return call(function, op.x, axis=tuple(range(1, op.rank() - 1)), keepdims=True)
