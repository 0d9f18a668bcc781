"""Pooling, channels-last."""

from __future__ import annotations

from dlbridge.frameworks.nnx.rules import NNX, rules
from dlbridge.passes.layout import DOMAIN
from dlbridge.source.arrays import pooling
from dlbridge.source.code import Code, call
from dlbridge.source.op import Op
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
    kernel, strides, count = pooling.kernel_of(op)
    pads, counted = pads_of(op, kernel, first=1), bool(op.attr("count_include_pad"))
    options = {"counted": True} if counted else {}
    if pads is None:
        given, upper = pooling.same_arguments(op, kernel)
        return call("average_pool_same", *given, **upper, **options)
    whole, dilations = pooling.with_overhang(op, kernel, strides, pads), pooling.dilations_of(op, kernel)
    # Flax counts what is not padding in the widest float type.
    if dilations is None and whole == pads and (counted or all(p == (0, 0) for p in pads)):
        return _pool("nnx.avg_pool", op, pads)
    if whole is None:
        around = [(0, 0), *pads, (0, 0)] if any(p != (0, 0) for p in pads) else None
        return call("average_pool_ceil", op.x, *pooling.window_arguments(op, kernel, strides, pads), around, **options)
    inner = [(0, 0)] * (count + 2) if not counted else [(0, 0), *pads, (0, 0)]
    outer = [(b - i, a - j) for (b, a), (i, j) in zip([(0, 0), *whole, (0, 0)], inner, strict=True)]
    return call("average_pool", op.x, tuple(kernel), tuple(strides), inner, outer, dilations=dilations)


@rules("GlobalAveragePool", "GlobalMaxPool", domain=DOMAIN)
def global_pool(op: Op) -> Code:
    function = "jnp.mean" if op.key == "GlobalAveragePool" else "jnp.max"
    return call(function, op.x, axis=tuple(range(1, op.rank() - 1)), keepdims=True)
