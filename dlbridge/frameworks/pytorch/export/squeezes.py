"""Axes that ``squeeze`` takes away where their size is 1: a graph has the same number of axes for all sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram

from dlbridge.constraints import Expression
from dlbridge.errors import warn_of_squeeze
from dlbridge.frameworks.pytorch.compat import OpOverload
from dlbridge.frameworks.pytorch.fx.guards import Guard, Names, follows
from dlbridge.frameworks.pytorch.fx.schema import plain_name, source_line
from dlbridge.frameworks.pytorch.fx.tensors import sizes_of


def guards_of(program: ExportedProgram, names: Names, stated: Sequence[Expression] = ()) -> list[Guard]:
    """What the sizes must keep for each ``squeeze`` to leave as many axes as in the program.

    Args:
        program: The program.
        names: The names of its sizes.
        stated: What the user says of the sizes.
    """
    made = []
    for node, size in found(program):
        relation = sympy.Ne(names.in_names(sympy.sympify(size)), 1)
        if not follows(relation, stated):
            made.append(Guard(relation, source_line(node.meta.get("stack_trace"))))
    return made


def tell(guards: Sequence[Guard], where: str) -> None:
    """Warn of each size that a ``squeeze`` takes away where it is 1."""
    for size in dict.fromkeys(str(guard.relation.args[0]) for guard in guards):
        place = next(guard.place for guard in guards if str(guard.relation.args[0]) == size)
        warn_of_squeeze(place or where, size)


def found(program: ExportedProgram) -> Iterator[tuple[torch.fx.Node, Any]]:
    """(call, size) of the axes of free sizes that a ``squeeze`` takes away where they are 1."""
    for node in program.graph.nodes:
        if not isinstance(node.target, OpOverload) or plain_name(node.target) != "aten.squeeze":
            continue
        sizes = sizes_of(node.args[0].meta["val"])
        dim: Any = node.args[1] if len(node.args) > 1 else range(len(sizes))
        for axis in [dim] if isinstance(dim, int) else dim:
            if sizes and not isinstance(sizes[axis], int):
                yield node, sizes[axis]
