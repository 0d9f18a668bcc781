"""The registry of PyTorch's writing rules, and what the rules share."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.source.arrays.dtypes import DTYPES, MORE_DTYPES
from dlbridge.source.op import Emit, Layer, Op, Rules
from dlbridge.source.tree.code import Code, Raw, call, code, node
from dlbridge.source.tree.expr import Attr, Call, Expr, Val
from dlbridge.source.unsigned import MODULAR, MOVING, ORDERING, Signed

#: The unsigned types that PyTorch stores and moves, but has hardly a kernel for.
UNSIGNED = {ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64}
#: Ops that only move elements, or that PyTorch has for all types.
_MOVING = MOVING | {"Tile", "Concat", "Stack", "Equal"}
#: Ops that compute modulo 2**64 on int64 what they do on uint64 (or have a rule of their own for it).
_MODULAR = MODULAR | {"Slice", "Compress", "NonZero"}


#: Slots of PyTorch's layers that hold state, which no optimizer changes.
STATE = frozenset({"running_mean", "running_var", "num_batches_tracked"})
#: The domain of nodes that are legalised for PyTorch (``recurrent_layers``).
FORM = "dlbridge.pytorch"


class _Signed(Signed):
    unsigned = UNSIGNED

    def cast(self, x: Any, dtype: ir.DataType) -> Code:
        return code("{}.to({})", x, Raw(TORCH_DTYPES[dtype]))

    def several(self, made: Code, types: list[ir.DataType | None], **flip: Any) -> Code:
        return call("as_unsigned", made, tuple(Raw(TORCH_DTYPES[t]) if t else None for t in types), **flip)


def _in_its_type(layer: Layer, graph: ir.Graph) -> Code:
    """The code that makes a layer, in the one floating-point type of its weights, if that is not PyTorch's default.

    ``load_state_dict`` copies numbers into the types that a module has been made with.
    """
    held = {graph.initializers[view.initializer].dtype for weight in layer.weights.values() for view in weight.views}
    floating = [dtype for dtype in held if dtype is not None and dtype.is_floating_point()]
    if len(floating) != 1 or floating[0] == ir.DataType.FLOAT or not isinstance(layer.new, Call):
        return layer.new
    return _typed(layer.new, node(Raw(TORCH_DTYPES[floating[0]])))


def _typed(new: Call, dtype: Expr) -> Call:
    """The code that makes a layer, of a type; a function around one (``weight_norm``) leaves its layer the type."""
    inner = new.arguments[0] if new.arguments else None
    if isinstance(inner, Call):
        return Call(new.function, (_typed(inner, dtype), *new.arguments[1:]))
    return new.with_keyword("dtype", dtype)


class _Rules(Rules):
    def emit(self, op: Op) -> Emit:
        if traits.has(op.node, traits.FREE_WEIGHTS):
            op.free = True
        made = self._emit(op)
        if made.layer is not None and made.layer.trains_what_is_fixed(op.node.graph, STATE):  # type: ignore[arg-type]
            op.free = True
            made = self._emit(op)
        if made.layer is not None:
            made.layer.new = _in_its_type(made.layer, op.node.graph)  # type: ignore[arg-type]
        return made

    def _emit(self, op: Op) -> Emit:
        values = [v for v in (*op.node.inputs, *op.node.outputs) if v is not None]
        if op.key in _MOVING or not any(v.dtype in UNSIGNED for v in values):
            return super().emit(op)
        big = any(v.dtype == ir.DataType.UINT64 for v in values[:1])
        if big and op.key not in ORDERING | _MODULAR:
            op.refuse("PyTorch does not compute it on uint64")
        signed = _Signed(op)
        return signed.narrowed(super().emit(signed))


#: ``@rules("Relu")`` over a function ``Op -> Code | Emit`` makes it the rule of an op.
rules = _Rules("pytorch")

TORCH_DTYPES = {dtype: f"torch.{name}" for dtype, name in (DTYPES | MORE_DTYPES).items()}


def torch_dtype(op: Op, dtype: ir.DataType) -> Raw:
    """A dtype as PyTorch calls it; refused by name when PyTorch has none."""
    if dtype not in TORCH_DTYPES:
        op.refuse(f"PyTorch has no dtype {dtype.name}")
    return Raw(TORCH_DTYPES[dtype])


def ints(op: Op, index: int) -> Any:
    """The elements of an integer input: a list of numbers and Python expressions, or code that makes the list."""
    found = op.ints(index)
    return code("{}.tolist()", op[index]) if found is None else found


def first_output(op: Op) -> str | None:
    """Targets of a call that gives the first output alone, where the node has more that nobody reads."""
    return None if len(op.node.outputs) == 1 else "{0}"


def placed(new: Code) -> Code:
    """A call that makes a tensor, on the device of the first tensor that it reads (a size, a bound)."""
    value = next(new.values(), None)
    if value is None or not isinstance(new, Call):
        return new
    return new.with_keyword("device", Attr(Val(value), "device"))
