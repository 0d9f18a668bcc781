"""The element types that ONNX ops accept and ask of numbers, and a wider type for those that they do not accept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

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


def in_wider(
    make: Callable[..., Any],
    op_type: str,
    inputs: Sequence[ir.Value | None],
    narrow: ir.DataType,
    wide: ir.DataType,
    **options: Any,
) -> Any:
    """What ``make(op_type, *inputs, **options)`` gives, computed in a wider type; the results are of the type again."""
    taken = [
        make("Cast", v, to=wide) if v is not None and v.dtype == narrow and wider(op_type, i, wide) is None else v
        for i, v in enumerate(inputs)
    ]
    made = make(op_type, *taken, **options)
    if not isinstance(made, list):
        return make("Cast", made, to=narrow) if 0 in _outputs_like_first(op_type) else made
    return [make("Cast", v, to=narrow) if i in _outputs_like_first(op_type) else v for i, v in enumerate(made)]


@functools.cache
def _outputs_like_first(op_type: str) -> frozenset[int]:
    """Indices of the outputs that have the type of the first input."""
    schema = onnx.defs.get_schema(op_type, IR_OPSET)
    return frozenset(i for i, o in enumerate(schema.outputs) if o.type_str == schema.inputs[0].type_str)


def of_number(op_type: str, index: int, inputs: Sequence[Any]) -> ir.DataType | None:
    """The type of a number that is the input ``index`` of an op; None if no input is a tensor.

    It is that of the tensors that must be of the same type (``Where``: the other branch); else int64 where an op takes
    no floats (an axis, an index), and the type of the first tensor where it does.
    """
    tensors = {i: v for i, v in enumerate(inputs) if isinstance(v, ir.Value)}
    alike = _type_parameter(op_type, index)
    same = next((v for i, v in tensors.items() if _type_parameter(op_type, i) == alike), None)
    if same is not None:
        return same.dtype
    accepted = _accepted_types(op_type, index)
    if ir.DataType.INT64 in accepted and ir.DataType.FLOAT not in accepted:
        return ir.DataType.INT64
    return next((v.dtype for v in tensors.values()), None)


@functools.cache
def _type_parameter(op_type: str, index: int) -> str:
    """The name of the type parameter of an input; that of an op which is not the standard's has none."""
    return _parameter(onnx.defs.get_schema(op_type, IR_OPSET), index).type_str if onnx.defs.has(op_type) else ""


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
