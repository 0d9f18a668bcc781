"""Reading and writing elements by index."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.rules import ints, rules
from dlbridge.frameworks.pytorch.writes.elementwise import is_tensor
from dlbridge.frameworks.pytorch.writes.shape import method
from dlbridge.ops import traits
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call, code

_REDUCTIONS = {"mul": "prod", "max": "amax", "min": "amin"}


def _long(op: Op, index: int) -> Any:
    """An index input as PyTorch's gather and scatter want it: int64, not negative."""
    numbers = op.const(index)
    is_forward = traits.counts_forward(op.node)
    known = is_forward or (numbers is not None and (numbers.size == 0 or numbers.min() >= 0))
    x = op[index] if op.dtype(index) == ir.DataType.INT64 else code("{}.long()", op[index])
    return x if known else None


@rules("Gather")
def gather(op: Op) -> Code:
    axis = op.axis()
    index = op.operand(1)
    if not is_tensor(index) and not isinstance(index, Code):
        index = int(index)
    elif op.dtype(1) not in (ir.DataType.INT64, ir.DataType.INT32):
        index = method("long", index)
    return code(f"{{}}[{':, ' * axis}{{}}]", op.x, index)


def _wrapped(op: Op, index: int, axis: int) -> Any:
    """Indices along an axis, with negative ones counted from its end."""
    plain = _long(op, index)
    return plain if plain is not None else code("{} % {}", op[index], op.dim(0, axis))


def _as_long(op: Op, index: int, wrapped: Any) -> Any:
    return wrapped if op.dtype(index) == ir.DataType.INT64 else code("({}).long()", wrapped)


@rules("GatherElements")
def gather_elements(op: Op) -> Code:
    axis = op.axis()
    return call("torch.gather", op.x, axis, _as_long(op, 1, _wrapped(op, 1, axis)))


@rules("ScatterElements", "Scatter")
def scatter_elements(op: Op) -> Code:
    axis, how = op.axis(), op.attr("reduction", "none")
    index = _as_long(op, 1, _wrapped(op, 1, axis))
    if how == "none":
        return method("scatter", op.x, axis, index, op[2])
    if how == "add":
        return method("scatter_add", op.x, axis, index, op[2])
    return method("scatter_reduce", op.x, axis, index, op[2], _REDUCTIONS[how])


@rules("NonZero")
def non_zero(op: Op) -> Code:
    return code("{}.nonzero().T", op.x)


@rules("Col2Im")
def col2im(op: Op) -> Code:
    size, kernel = ints(op, 1), ints(op, 2)
    count = len(op.numbers(2) or []) or (op.shape(2) or [0])[0]
    assert isinstance(count, int)
    strides, dilations = op.attr("strides") or [1] * count, op.attr("dilations") or [1] * count
    pads = op.attr("pads") or [0] * 2 * count
    if count == 2 and pads[:2] == pads[2:]:
        keywords = {
            k: tuple(v)
            for k, v, usual in (("dilation", dilations, 1), ("padding", pads[:2], 0), ("stride", strides, 1))
            if any(i != usual for i in v)
        }
        sizes = [tuple(v) if isinstance(v, list) else v for v in (size, kernel)]
        return call("F.fold", op.x, *sizes, **keywords)
    return call("col2im", op.x, size, kernel, strides, pads, dilations)
