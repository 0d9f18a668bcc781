"""``Building``: what a rule that replaces a node by others sees of the node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import onnx_ir as ir

from dlbridge.passes.matching import rank
from dlbridge.passes.rewriter import Site


class CannotBuildError(Exception):
    """A node cannot be expressed in other ops."""


class Building(Site):
    """A node that is replaced."""

    __slots__ = ()
    #: What is raised where a rule needs to know what is not known.
    error: ClassVar[type[CannotBuildError]] = CannotBuildError

    @property
    def x(self) -> ir.Value:
        """The first input."""
        return self.operand(0)

    def scalar(self, what: str, number: float, dtype: ir.DataType | None = None) -> ir.Value:
        """A scalar constant of the dtype of the first input, or of ``dtype``."""
        return self.constant(what, number, dtype or self.dtype())

    def known_rank(self, slot: int = 0) -> int:
        """The rank of an input.

        Raises:
            CannotBuildError: When it is not known.
        """
        found = rank(self.input(slot))
        if found is None:
            raise self.error("the rank of its input is not known")
        return found

    def split(self, x: ir.Value, parts: list[int], what: str = "parts") -> Sequence[ir.Value]:
        """``x`` in parts of these sizes along its last axis."""
        sizes = self.constant(f"{what}_sizes", parts)
        return self.many("Split", what, [x, sizes], len(parts), axis=-1)
