"""Rules of the downgrade: how they are registered, and how they see a node.

``@replace`` rules build other nodes, in the form of ``IR_OPSET`` (they are lowered in turn), and return the values that
take the place of the node's outputs, or None where the op can stay. ``@adapt`` rules change a node into its older form
in place; they run when nothing is left to replace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import onnx_ir as ir

from dlbridge.passes.building import Building, CannotBuildError
from dlbridge.passes.rewriter import Rewriter


class CannotDowngradeError(CannotBuildError):
    """An op cannot be expressed at the target opset. ``lowest`` is the first opset that can, if the rule knows it."""

    def __init__(self, why: str, lowest: int | None = None) -> None:
        super().__init__(why)
        self.lowest = lowest


class Old(Building):
    """A node that is brought to the older opset ``opset``."""

    __slots__ = ("opset",)
    error = CannotDowngradeError

    def __init__(self, node: ir.Node, rewriter: Rewriter, opset: int) -> None:
        super().__init__(node, rewriter)
        self.opset = opset


Replace = Callable[[Old], "ir.Value | tuple[ir.Value | None, ...] | None"]
Adapt = Callable[[Old], None]
Rule = TypeVar("Rule", Replace, Adapt)
#: op type -> [(opset below which the rule applies, rule)].
REPLACE: dict[str, list[tuple[int, Replace]]] = {}
ADAPT: dict[str, list[tuple[int, Adapt]]] = {}
#: op type -> attribute -> value -> the lowest opset that has this value.
VALUES: dict[str, dict[str, dict[Any, int]]] = {
    "Pad": {"mode": {"wrap": 19}},
    "Resize": {"coordinate_transformation_mode": {"half_pixel_symmetric": 19}},
    "ScatterElements": {"reduction": {"add": 16, "mul": 16, "max": 18, "min": 18}},
    "ScatterND": {"reduction": {"add": 16, "mul": 16, "max": 18, "min": 18}},
}
#: ``below`` of a rule for every opset.
ALWAYS = 1 << 16


def replace(*op_types: str, below: int) -> Callable[[Replace], Replace]:
    return _registers(REPLACE, op_types, below)


def adapt(*op_types: str, below: int) -> Callable[[Adapt], Adapt]:
    return _registers(ADAPT, op_types, below)


def _registers(table: dict[str, list[tuple[int, Rule]]], op_types: Sequence[str], below: int) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for op_type in op_types:
            table.setdefault(op_type, []).append((below, rule))
        return rule

    return register
