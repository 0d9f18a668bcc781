"""The element types that ONNX ops accept, and a wider type for those that they do not."""

from __future__ import annotations

import functools

import onnx
import onnx_ir as ir

from dlbridge.ops.traits import IR_OPSET

_WIDER = {
    **dict.fromkeys(("BOOL", "INT8", "UINT8", "INT16", "UINT16"), ("INT32", "INT64", "FLOAT")),
    **dict.fromkeys(("UINT32", "INT32", "UINT64"), ("INT64", "DOUBLE")),
    **dict.fromkeys(("FLOAT16", "BFLOAT16"), ("FLOAT",)),
}


@functools.cache
def wider(op_type: str, index: int, dtype: ir.DataType) -> ir.DataType | None:
    """The type in which to compute an op whose input ``index`` cannot be of ``dtype``; None if it can.

    Integers are computed modulo their size then, booleans as 0 and 1.
    """
    accepted = _accepted_types(op_type, index)
    if not accepted or dtype in accepted:
        return None
    names = _WIDER.get(dtype.name, ())
    return next((ir.DataType[name] for name in names if ir.DataType[name] in accepted), None)


def takes(op_type: str, dtype: ir.DataType | None) -> bool:
    """Whether the first input of an op can be of a type, or the op can be computed in a wider one."""
    accepted = _accepted_types(op_type, 0)
    return dtype is None or not accepted or dtype in accepted or wider(op_type, 0, dtype) is not None


@functools.cache
def outputs_like_first(op_type: str) -> frozenset[int]:
    """Indices of the outputs that have the type of the first input."""
    schema = onnx.defs.get_schema(op_type, IR_OPSET)
    return frozenset(i for i, o in enumerate(schema.outputs) if o.type_str == schema.inputs[0].type_str)


def _parameter(schema: onnx.defs.OpSchema, index: int) -> onnx.defs.OpSchema.FormalParameter:
    return schema.inputs[min(index, len(schema.inputs) - 1)]


@functools.cache
def _accepted_types(op_type: str, index: int) -> frozenset[ir.DataType]:
    if not onnx.defs.has(op_type):
        return frozenset()
    schema = onnx.defs.get_schema(op_type, IR_OPSET)
    if not schema.inputs:
        return frozenset()
    names = (text.removeprefix("tensor(").removesuffix(")") for text in _parameter(schema, index).types)
    return frozenset(_NAMES[name] for name in names if name in _NAMES)


#: ``tensor(float)`` in a schema -> the type.
_NAMES = {kind.name.lower(): kind for kind in ir.DataType}
