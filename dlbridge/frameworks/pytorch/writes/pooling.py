"""Pooling: F.max_pool2d and the like where they compute what ONNX says, helpers for the paddings that they lack."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.pytorch.rules import rules, torch_dtype
from dlbridge.frameworks.pytorch.writes.convolution import flat, is_symmetric
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, Raw, call, code
from dlbridge.source.windows import Pads, one_or_all, options, pads_of, window


def _plain_pads(op: Op, kernel: list[int], pads: Pads | None) -> bool:
    """Whether PyTorch's pools take the padding: the same on both sides, and at most half of the window."""
    return pads is not None and is_symmetric(pads) and all(2 * p <= k for (p, _), k in zip(pads, kernel, strict=True))


def _check(op: Op, kernel: list[int]) -> int:
    if len(kernel) not in (1, 2, 3):
        op.refuse(f"PyTorch pools along 1 to 3 axes, not {len(kernel)}")
    return len(kernel)


def _keywords(op: Op, kernel: list[int], pads: Pads) -> dict[str, Any]:
    """Arguments of a PyTorch pool, whose stride is the kernel when it is not given."""
    strides, dilations = window(op, kernel)
    keywords: dict[str, Any] = {} if strides == kernel else {"stride": one_or_all(strides)}
    keywords |= options(padding=([p for p, _ in pads], 0), dilation=(dilations, 1))
    return keywords | ({"ceil_mode": True} if op.attr("ceil_mode") else {})


def _general(op: Op, kernel: list[int], pads: Pads | None) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a helper that pools with any padding."""
    strides, dilations = window(op, kernel)
    keywords: dict[str, Any] = {"dilation": tuple(dilations)} if any(d != 1 for d in dilations) else {}
    keywords |= {"ceil_mode": True} if op.attr("ceil_mode") else {}
    how = flat(pads) if pads is not None else op.attr("auto_pad")
    return [tuple(kernel), tuple(strides), how], keywords


@rules("MaxPool")
def max_pool(op: Op) -> Emit:
    kernel = op.attr("kernel_shape")
    count = _check(op, kernel)
    pads = pads_of(op, kernel)
    integer = op.dtype().is_integer()
    x = code("{}.to(torch.float32)", op.x) if integer else op.x

    def finished(result: Code) -> Code:
        return code("{}.to({})", result, torch_dtype(op, op.dtype())) if integer else result

    if op.used(1):
        arguments, keywords = _general(op, kernel, pads)
        keywords |= {"column_major": True} if op.attr("storage_order") else {}
        result = call("max_pool_with_indices", x, *arguments, **keywords)
        if integer:
            op.refuse("its indices on integers cannot be written")
        return Emit(result)
    if pads is not None and not op.attr("ceil_mode") and not is_symmetric(pads):
        padded = call("F.pad", x, flat(pads), value=Raw('float("-inf")'))
        keywords = _keywords(op, kernel, [(0, 0)] * count)
        return Emit(finished(call(f"F.max_pool{count}d", padded, one_or_all(kernel), **keywords)))
    if not _plain_pads(op, kernel, pads):
        arguments, keywords = _general(op, kernel, pads)
        return Emit(finished(call("max_pool", x, *arguments, **keywords)))
    keywords = _keywords(op, kernel, pads or [])
    module = None if integer else Layer(call(f"nn.MaxPool{count}d", one_or_all(kernel), **keywords))
    return Emit(finished(call(f"F.max_pool{count}d", x, one_or_all(kernel), **keywords)), module=module)


@rules("AveragePool")
def average_pool(op: Op) -> Emit:
    kernel = op.attr("kernel_shape")
    count = _check(op, kernel)
    pads = pads_of(op, kernel)
    include = bool(op.attr("count_include_pad"))
    dilated = any(d != 1 for d in op.attr("dilations") or [])
    if dilated or not _plain_pads(op, kernel, pads):
        arguments, keywords = _general(op, kernel, pads)
        keywords |= {"count_include_pad": True} if include else {}
        return Emit(call("average_pool", op.x, *arguments, **keywords))
    keywords = _keywords(op, kernel, pads or [])
    padded = any(p for p, _ in pads or [])
    keywords |= {"count_include_pad": False} if padded and not include else {}
    return Emit(
        call(f"F.avg_pool{count}d", op.x, one_or_all(kernel), **keywords),
        module=Layer(call(f"nn.AvgPool{count}d", one_or_all(kernel), **keywords)),
    )


@rules("LpPool")
def lp_pool(op: Op) -> Code:
    kernel = op.attr("kernel_shape")
    _check(op, kernel)
    arguments, keywords = _general(op, kernel, pads_of(op, kernel))
    return call("lp_pool", op.x, op.attr("p"), *arguments, **keywords)


@rules("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(op: Op) -> Emit | Code:
    kind, count = op.key, op.rank() - 2
    axes = tuple(range(2, op.rank()))
    if kind == "GlobalLpPool":
        return code("torch.linalg.vector_norm({}, {p}, dim={dim}, keepdim=True)", op.x, p=op.attr("p"), dim=axes)
    if count not in (1, 2, 3):
        name = "mean" if kind == "GlobalAveragePool" else "amax"
        return code("{}", op.x) if not axes else code(f"{{}}.{name}({{dim}}, keepdim=True)", op.x, dim=axes)
    name, short = ("avg", "Avg") if kind == "GlobalAveragePool" else ("max", "Max")
    return Emit(
        call(f"F.adaptive_{name}_pool{count}d", op.x, 1),
        module=Layer(call(f"nn.Adaptive{short}Pool{count}d", 1)),
    )
