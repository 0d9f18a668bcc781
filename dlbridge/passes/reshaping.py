"""Replaces the computed sizes of Reshape and Resize by constants that mean the same."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dlbridge.passes.integers import Integers
from dlbridge.passes.matching import Match, constant, match
from dlbridge.passes.no_ops import earlier_forms
from dlbridge.passes.rewriter import Rewriter
from dlbridge.passes.sizes import Size, shape_of


def simplify_reshape(node: ir.Node, known: Integers, rewriter: Rewriter) -> None:
    """Let a Reshape by computed sizes, or of another Reshape's result, take a constant shape and the first input.

    The constant has 0 where the size of the input stays and one -1.
    """
    found = match(node, "Reshape")
    if found is None or node.graph is None:
        return
    given = found.operand(0)
    for start in dict.fromkeys((_first_form(given), given)):
        if start is given and constant(found.input(1)) is not None:
            return
        sizes = reshape_target(_wanted(found, known), shape_of(start))
        if sizes is not None:
            node.attributes.pop("allowzero", None)  # no size of the target is zero
            node.replace_input_with(0, start)
            node.replace_input_with(1, rewriter.constant(f"{found.output.name}.sizes", sizes))
            return


def _first_form(value: ir.Value) -> ir.Value:
    """The first value that reshapes have made this one of, but none before an output of the model."""
    for earlier in earlier_forms(value):
        if value.is_graph_output():
            break
        value = earlier
    return value


def _wanted(reshape: Match, known: Integers) -> Sequence[Size | None] | None:
    """The sizes after a Reshape."""
    inferred, target = shape_of(reshape.output), known.get(reshape.operand(1))
    if inferred is None and target is not None:
        return list(target)
    return inferred


def reshape_target(wanted: Sequence[Size | None] | None, given: Sequence[Size | None] | None) -> list[int] | None:
    """The constant to reshape ``given`` to ``wanted`` by, if there is one."""
    if wanted is None or given is None or any(size is not None and size.number == 0 for size in wanted):
        return None
    sizes: list[int] = []
    for axis, size in enumerate(wanted):
        if size is None:
            sizes.append(-1)
        elif size.number is not None:
            sizes.append(size.number)
        else:
            stays = axis < len(given) and given[axis] == size
            sizes.append(0 if stays else -1)
    return None if sizes.count(-1) > 1 else sizes


def simplify_resize(node: ir.Node, known: Integers, rewriter: Rewriter) -> None:
    """Let a Resize to computed sizes, some of which are the input's own, take constants on the other axes."""
    found = match(node, "Resize", keep_aspect_ratio_policy="stretch")
    target = None if found is None else found.input(3)
    if found is None or target is None or found.has("axes") or constant(target) is not None:
        return
    wanted, given = known.get(target), shape_of(found.input(0))
    if wanted is None or given is None or len(wanted) != len(given):
        return
    axes = [axis for axis, size in enumerate(wanted) if size is None or size != given[axis]]
    changing = [wanted[axis] for axis in axes]
    numbers = [size.number for size in changing if size is not None and size.number is not None]
    if not axes or len(numbers) < len(axes):
        return
    node.attributes["axes"] = ir.AttrInt64s("axes", axes)
    node.replace_input_with(3, rewriter.constant(f"{found.output.name}.sizes", numbers))
