"""Unsigned integers, computed on int64, where a framework moves them but hardly computes with them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

import onnx_ir as ir

from dlbridge.source.op import Emit, Op
from dlbridge.source.tree.code import Code, call

#: Ops that only move elements.
MOVING = frozenset(
    {"Cast", "CastLike", "BitCast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand"}
    | {"Shape", "Size", "If", "Loop", "Scan", "Gather", "Split", "Constant", "ConstantOfShape", "EyeLike"}
    | {"QuantizeLinear", "DequantizeLinear"}
)
#: Ops that ask which of two numbers is larger.
ORDERING = frozenset(
    {"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Max", "Min", "Clip", "TopK", "Unique"}
    | {"ReduceMax", "ReduceMin", "ArgMax", "ArgMin"}
)
#: Ops that compute modulo 2**64 on int64 what they do on uint64 (or have a rule of their own for it).
MODULAR = frozenset(
    {"Add", "Sub", "Mul", "Sum", "Div", "Mod", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"}
    | {"CumSum", "ReduceSum", "ReduceProd", "MatMul", "Gemm", "Where", "Pad", "Trilu"}
    | {"GatherElements", "GatherND", "TensorScatter", "ReverseSequence", "OneHot", "CenterCropPad", "DepthToSpace"}
    | {"SpaceToDepth", "Range"}
)


class Signed(Op):
    """A node on unsigned integers, computed on int64.

    int64 holds all of uint16 and uint32, and computes modulo 2**64 what uint64 does; only its order is another, which
    a flipped top bit mends. A framework's subclass says for which types, and how it casts.
    """

    #: The types that are computed on int64.
    unsigned: ClassVar[Collection[ir.DataType]]

    def cast(self, x: Any, dtype: ir.DataType) -> Code:
        """A tensor in another dtype."""
        raise NotImplementedError

    def several(self, made: Code, types: list[ir.DataType | None], **flip: Any) -> Code:
        """A call of the helper that gives several results their types; None stands for one that stays as it is."""
        raise NotImplementedError

    def __init__(self, op: Op) -> None:
        self.__dict__.update(op.__dict__)
        big = any(v is not None and v.dtype == ir.DataType.UINT64 for v in (*self.node.inputs, *self.node.outputs))
        self.flips = self.key in ORDERING and big

    def _signed(self, index: int, given: Any) -> Any:
        if super().dtype(index) not in self.unsigned or not isinstance(given, (ir.Value, Code)):
            return given
        wide = self.cast(given, ir.DataType.INT64)
        return call("flip_top_bit", wide) if self.flips else wide

    def __getitem__(self, index: int) -> Any:
        return self._signed(index, super().__getitem__(index))

    def operand(self, index: int) -> Any:
        return self[index] if super().dtype(index) in self.unsigned else super().operand(index)

    def dtype(self, index: int = 0) -> ir.DataType:
        dtype = super().dtype(index)
        return ir.DataType.INT64 if dtype in self.unsigned else dtype

    def out_dtype(self, index: int = 0) -> ir.DataType:
        dtype = super().out_dtype(index)
        return ir.DataType.INT64 if dtype in self.unsigned else dtype

    def narrowed(self, made: Emit) -> Emit:
        """The results in the types that they have."""
        types = [v.dtype if v.dtype in self.unsigned else None for v in self.node.outputs]
        if not any(types):
            return made
        if len(types) == 1:
            result = call("flip_top_bit", made.code) if self.flips else made.code
            return Emit(self.cast(result, types[0]))  # type: ignore[arg-type]
        return Emit(self.several(made.code, types, flip=True if self.flips else None), targets=made.targets)
