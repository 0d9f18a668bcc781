"""Permutations of axes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir


def to_last(rank: int) -> list[int]:
    """The permutation that makes channels-first channels-last."""
    return [0, *range(2, rank), 1]


def to_first(rank: int) -> list[int]:
    """The permutation that makes channels-last channels-first."""
    return [0, rank - 1, *range(1, rank - 1)]


def inverse(perm: Sequence[int]) -> list[int]:
    """The permutation that undoes ``perm``."""
    return [list(perm).index(axis) for axis in range(len(perm))]


def permuted(shape: ir.Shape | None, perm: Sequence[int]) -> ir.Shape | None:
    """The shape of a transposed value."""
    return None if shape is None else ir.Shape([shape[axis] for axis in perm])


def without(perm: Sequence[int], axes: Sequence[int]) -> list[int]:
    """The permutation that is left when output axes ``axes`` of a transpose are removed."""
    kept = [source for axis, source in enumerate(perm) if axis not in axes]
    return [sorted(kept).index(source) for source in kept]
