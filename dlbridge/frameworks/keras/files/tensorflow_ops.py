"""TensorFlow's ops that tf2onnx takes for others: it truncates quotients of integers that TensorFlow rounds down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir


def _floor_divide(ctx: Any, node: Any, name: str, _: Any) -> None:
    """The quotient rounded down: of integers, what the remainder leaves is divided."""
    first, second = node.input
    if _is_real(ctx, node):
        quotient = ctx.make_node("Div", [first, second]).output[0]
        _replace(ctx, node, name, "Floor", [quotient])
        return
    rest = ctx.make_node("Mod", [first, second]).output[0]
    whole = ctx.make_node("Sub", [first, rest]).output[0]
    _replace(ctx, node, name, "Div", [whole, second])


def _floor_mod(ctx: Any, node: Any, name: str, _: Any) -> None:
    """The remainder of the divisor's sign, which is ONNX' own for integers."""
    first, second = node.input
    if not _is_real(ctx, node):
        _replace(ctx, node, name, "Mod", [first, second])
        return
    quotient = ctx.make_node("Div", [first, second]).output[0]
    floor = ctx.make_node("Floor", [quotient]).output[0]
    _replace(ctx, node, name, "Sub", [first, ctx.make_node("Mul", [floor, second]).output[0]])


def _is_real(ctx: Any, node: Any) -> bool:
    return ir.DataType(ctx.get_dtype(node.input[0])).is_floating_point()


def _replace(ctx: Any, node: Any, name: str, op_type: str, inputs: Sequence[str]) -> None:
    """Let a node of the standard make what a node of TensorFlow makes."""
    shapes, dtypes, outputs = node.output_shapes, node.output_dtypes, node.output
    ctx.remove_node(node.name)
    ctx.make_node(op_type, list(inputs), name=name, outputs=outputs, shapes=shapes, dtypes=dtypes)


#: What tf2onnx is given to convert them by.
HANDLERS: dict[str, tuple[Any, list[Any]]] = {"FloorDiv": (_floor_divide, []), "FloorMod": (_floor_mod, [])}
