"""What code needs of the place where it stands: told by the functions that it calls."""

from __future__ import annotations

from collections.abc import Collection

#: Calls for what is not known where layers are joined: sizes, a branch, a loop.
_AT_RUN_TIME = frozenset({"ops.shape", "ops.cond", "ops.scan", "ops.while_loop", "loop_counted"})
#: Calls for the numbers in a tensor.
_NUMBERS = frozenset({"ops.convert_to_numpy", "ops.nonzero", "ops.unique"})
_RANDOM = ["keras", "random"]


def reads_numbers(calls: Collection[str]) -> bool:
    """Whether code with these calls reads the numbers in a tensor, so that it runs eagerly."""
    return not _NUMBERS.isdisjoint(calls)


def needs_layer(calls: Collection[str]) -> bool:
    """Whether code with these calls stands in a layer: where layers are joined, it would see no sizes or numbers, or
    draw the same random numbers again and again."""
    draws = any(call.split(".")[:2] == _RANDOM for call in calls)
    return draws or not _AT_RUN_TIME.isdisjoint(calls) or reads_numbers(calls)
