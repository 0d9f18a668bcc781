"""Checks of nodes that the ONNX standard states in words only, so that shape inference does not make them."""

from __future__ import annotations

import math

import onnx_ir as ir

from dlbridge.description import signature, values
from dlbridge.errors import DescriptionError, ShapeError, suggest
from dlbridge.ops.attributes import WORDS
from dlbridge.ops.keys import is_op, op_key

_WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")


def check_word(op: str, attribute: str, value: object) -> None:
    """
    Raises:
        DescriptionError: When the attribute is a word that the standard does not have there.
    """
    known = WORDS.get((op, attribute))
    if known is not None and isinstance(value, str) and value not in known:
        raise DescriptionError(
            f"'{attribute}' of {op} is one of {', '.join(known)}, not '{value}'", hint=suggest(value, known)
        )


def check_dtypes(node: ir.Node, shown: str) -> None:
    """
    Args:
        node: A node whose inputs have their dtypes.
        shown: Its inputs, with their dtypes and shapes, for the error.

    Raises:
        ShapeError: When an input has a dtype that the op does not take.
    """
    schema = signature.schema(node.domain, node.op_type)
    if schema is None:
        return
    constraints = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    for slot, value in enumerate(node.inputs):
        if value is None or not isinstance(value.type, ir.TensorType) or not schema.inputs:
            continue
        parameter = schema.inputs[min(slot, len(schema.inputs) - 1)]
        allowed = constraints.get(parameter.type_str, {parameter.type_str})
        if signature.type_text(value.type.dtype) not in allowed:
            names = [values.dtype_name(d) for d in values.DTYPES.values() if signature.type_text(d) in allowed]
            raise ShapeError(
                f"{node.op_type} cannot take ({shown}): '{value.name}' is {values.dtype_name(value.type.dtype)}",
                hint=f"it may be {', '.join(names)}",
            )


def check_sizes(node: ir.Node, shown: str) -> None:
    """
    Args:
        node: A node whose outputs have their shapes.
        shown: Its inputs, with their dtypes and shapes, for the error.

    Raises:
        ShapeError: When sizes do not fit.
    """

    def fail(why: str) -> None:
        raise ShapeError(f"{node.op_type} cannot take ({shown}): {why}")

    out = node.outputs[0].shape if node.outputs else None
    first = node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
    if out is None or first is None:
        return
    sizes = zip(list(first)[2:], list(out)[2:], strict=False)
    if op_key(node) in _WINDOWS and any(isinstance(n, int) and n < 1 and m != 0 for m, n in sizes):
        fail("the window is larger than what it slides over")
    if is_op(node, "Reshape") and first.is_static() and out.is_static():
        before, after = math.prod(first.numpy()), math.prod(out.numpy())
        if before != after:
            fail(f"{before} elements do not fit the shape {list(out)}")
    if is_op(node, "Attention") and len(first) == 3:
        for slot, attribute in enumerate(("q_num_heads", "kv_num_heads", "kv_num_heads")):
            value, heads = node.inputs[slot], node.attributes.get(attribute)
            size = value.shape[-1] if value is not None and value.shape is not None else None
            if heads is not None and isinstance(size, int) and size % heads.as_int():
                fail(f"{size} is not divisible by {attribute} = {heads.as_int()}")
