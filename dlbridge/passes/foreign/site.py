"""Rules for ops of other domains: how they are registered, and how they see a node.

A rule builds nodes of the standard, at ``IR_OPSET``, and returns the values that replace the node's outputs. None
stands for an output that the rule does not compute; if something reads it, the node is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from dlbridge.ops.strings import ML as ML
from dlbridge.passes.building import Building, CannotBuildError
from dlbridge.passes.matching import stored
from dlbridge.passes.sizes import Sizes, shape_of


class CannotReadError(CannotBuildError):
    """A node means something that the standard's ops cannot express, or that is not known here."""


class Foreign(Building):
    """A node of another domain."""

    __slots__ = ()
    error = CannotReadError

    @property
    def kind(self) -> str:
        """The name of the op in its domain."""
        return self.key.rpartition("::")[2]

    def needs(self, condition: object, why: str) -> None:
        """Refuse the node unless a condition holds.

        Raises:
            CannotReadError: ``why`` it is refused.
        """
        if not condition:
            raise CannotReadError(why)

    def sizes(self, slot: int) -> Sizes | None:
        """The sizes of an input, where its rank is known."""
        return shape_of(self.input(slot))

    def size(self, slot: int, axis: int) -> int:
        """The size of an axis of an input.

        Raises:
            CannotReadError: When it is no known number.
        """
        found = self.static_size(slot, axis)
        if found is None:
            raise CannotReadError("a size that it needs is not known")
        return found

    def array(self, slot: int, what: str) -> np.ndarray:
        """The numbers of an input.

        Raises:
            CannotReadError: When they are computed.
        """
        found = self.known(slot)
        if found is None:
            raise CannotReadError(f"{what} is computed in the graph, and not a constant")
        return found

    def stored(self, slot: int) -> ir.TensorProtocol | None:
        """The tensor of an input that is an initializer."""
        return stored(self.input(slot))

    def turned(self, x: ir.Value, what: str, *order: int) -> ir.Value:
        """``x`` with its axes in another order."""
        return self.op("Transpose", what, [x], perm=list(order))

    def reshaped(self, x: ir.Value, what: str, *sizes: int) -> ir.Value:
        """``x`` in another shape: 0 keeps a size, -1 is what is left."""
        return self.op("Reshape", what, [x, self.constant(f"{what}_shape", list(sizes))])

    def with_axes(self, x: ir.Value, what: str, *axes: int) -> ir.Value:
        """``x`` with further axes of size 1."""
        return self.op("Unsqueeze", what, [x, self.constant(f"{what}_axes", list(axes))])

    def size_of(self, x: ir.Value, axis: int, what: str) -> ir.Value:
        """The size of an axis at run time, as a vector of one number."""
        return self.op("Shape", what, [x], start=axis, end=axis + 1)

    def range_to(self, size: ir.Value, what: str) -> ir.Value:
        """0, 1, 2, ... below a size that is a vector of one number."""
        count = self.op("Squeeze", f"{what}_count", [size])
        parts = [self.constant(f"{what}_first", 0), count, self.constant(f"{what}_step", 1)]
        return self.op("Range", what, parts)


Results = ir.Value | Sequence[ir.Value | None]
Rule = Callable[[Foreign], Results]
#: Op, as :func:`dlbridge.ops.keys.op_key` names it -> rule.
RULES: dict[str, Rule] = {}
MICROSOFT = "com.microsoft"


def rule(*op_types: str, domain: str = MICROSOFT) -> Callable[[Rule], Rule]:
    """Register the rule that replaces ops of another domain by ops of the standard."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys([f"{domain}::{op_type}" if domain else op_type for op_type in op_types], function))
        return function

    return register
