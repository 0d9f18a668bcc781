"""Equations of matrices of known size, by the elimination of Gauss and Jordan with the largest pivot of a column."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import common_sizes, rank, sizes, with_sizes
from dlbridge.frameworks.pytorch.graph.control import repeat
from dlbridge.frameworks.pytorch.graph.reading import Op, reads


def _eliminated(op: Op, matrix: ir.Value) -> list[ir.Value]:
    """Gauss-Jordan elimination: (the matrix (..., n, m) with its first n columns reduced to the identity, sign and
    log |determinant| of these columns)."""
    batch, n = sizes(matrix)[:-2], sizes(matrix)[-2]
    if not isinstance(n, int):
        op.refuse("equations of matrices whose size is not fixed")
    dtype, rows = matrix.dtype, op.constant(np.arange(n))
    one = op.filled(1, dtype, batch)
    zero = op.filled(0, dtype, batch)

    def step(k: ir.Value, now: ir.Value, sign: ir.Value, size: ir.Value) -> list[ir.Value]:
        column = op("Gather", now, k, axis=-1)
        below = op("Where", op("GreaterOrEqual", rows, k), op("Abs", column), -1)
        best = op("ArgMax", below, axis=-1, keepdims=1)
        here, there = (op.cast(op("Equal", rows, place), dtype) for place in (k, best))
        here, there = (op("Unsqueeze", flags, [-1]) for flags in (here, there))
        upper = op("Gather", now, op("Unsqueeze", k, [0]), axis=-2)
        lower = op("ReduceSum", op("Where", op("Equal", there, 1), now, 0), [-2], keepdims=1)
        now = op("Where", op("Equal", there, 1), upper, now)
        now = op("Where", op("Equal", here, 1), lower, now)
        pivot = op("Gather", lower, op("Unsqueeze", k, [0]), axis=-1)
        scaled = lower / pivot
        rest = now - op("Gather", now, op("Unsqueeze", k, [0]), axis=-1) * scaled
        made = op("Where", op("Equal", here, 1), scaled, rest)
        number = op("Squeeze", pivot, [-2, -1])
        kept = op("Equal", op("Squeeze", best, [-1]), k)
        turned = op("Where", kept, op("Sign", number), -op("Sign", number))
        size = size + op("Log", op("Abs", number))
        return [made, sign * turned, size]

    return repeat(op, op.number(n, ir.DataType.INT64), [matrix, one, zero], step)


def _solution(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    """Solve A X = B for batches of matrices of the same shape."""
    n = sizes(a)[-1]
    of = [*sizes(a)[:-1], n + sizes(b)[-1]]
    made = _eliminated(op, with_sizes(op("Concat", a, b, axis=-1), of))[0]
    return with_sizes(op("Slice", made, [n], [2**62], [-1]), sizes(b))


def _identity(op: Op, a: ir.Value) -> ir.Value:
    n = sizes(a)[-1]
    if not isinstance(n, int):
        op.refuse("the inverse of matrices whose size is not fixed")
    return op("Expand", op.constant(np.eye(n), a.dtype), sizes(a))


def _equations(op: Op, a: ir.Value, b: ir.Value, left: bool = True) -> ir.Value:
    """Solve A X = B or X A = B; batches are broadcast."""
    if not left:
        return op.swap(_equations(op, op.swap(a, -1, -2), op.swap(b, -1, -2)), -1, -2)
    vectors = rank(b) == 1 or (rank(b) == rank(a) - 1 and sizes(b) == sizes(a)[:-1])
    if vectors:
        b = op.unsqueeze(b, [-1])
    batch = common_sizes([sizes(a)[:-2], sizes(b)[:-2]])
    made = _solution(op, *(op.expand(v, [*batch, *sizes(v)[-2:]]) for v in (a, b)))
    return op.squeeze(made, [-1]) if vectors else made


@reads("aten._linalg_solve_ex")
def solve(op: Op, a: ir.Value, b: ir.Value, *, left: bool = True, check_errors: bool = False) -> list[Any]:
    return [_equations(op, a, b, left), None, None, _no_error(op, a)]


def _no_error(op: Op, a: ir.Value) -> ir.Value:
    return op.filled(0, ir.DataType.INT32, sizes(a)[:-2])


@reads("aten.linalg_inv_ex")
def inverse(op: Op, a: ir.Value, *, check_errors: bool = False) -> list[Any]:
    return [_solution(op, a, _identity(op, a)), _no_error(op, a)]


@reads("aten._linalg_det")
def determinant(op: Op, a: ir.Value) -> list[Any]:
    return [op("Det", a), None, None]


@reads("aten._linalg_slogdet")
def sign_and_size(op: Op, a: ir.Value) -> list[Any]:
    _, sign, size = _eliminated(op, a)
    return [sign, size, None, None]


def _triangle(op: Op, a: ir.Value, upper: bool, unit: bool) -> ir.Value:
    made = op("Trilu", a, upper=int(upper))
    if not unit:
        return made
    return op("Trilu", a, 1 if upper else -1, upper=int(upper)) + _identity(op, a)


@reads("aten.linalg_solve_triangular")
def solve_triangular(
    op: Op, a: ir.Value, b: ir.Value, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> ir.Value:
    return _equations(op, _triangle(op, a, upper, unitriangular), b, left)


@reads("aten.triangular_solve")
def triangular_solve(
    op: Op, b: ir.Value, a: ir.Value, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> list[Any]:
    matrix = _triangle(op, a, upper, unitriangular)
    made = _equations(op, op.swap(matrix, -1, -2) if transpose else matrix, b)
    return [made, op("Expand", a, sizes(a))]


def _factors(op: Op, factor: ir.Value, upper: bool) -> tuple[ir.Value, ir.Value]:
    """The lower and the upper triangle whose product is the matrix of which this is the Cholesky factor."""
    triangle = _triangle(op, factor, upper, unit=False)
    turned = op.swap(triangle, -1, -2)
    return (turned, triangle) if upper else (triangle, turned)


@reads("aten.cholesky_solve")
def cholesky_solve(op: Op, b: ir.Value, factor: ir.Value, upper: bool = False) -> ir.Value:
    first, second = _factors(op, factor, upper)
    return _equations(op, second, _equations(op, first, b))


@reads("aten.cholesky_inverse")
def cholesky_inverse(op: Op, factor: ir.Value, upper: bool = False) -> ir.Value:
    matrix = with_sizes(op("MatMul", *_factors(op, factor, upper)), sizes(factor))
    return _solution(op, matrix, _identity(op, matrix))


@reads("aten.cholesky", "aten.linalg_cholesky_ex")
def cholesky(op: Op, a: ir.Value, upper: bool = False, *, check_errors: bool = False) -> Any:
    """The lower Cholesky factor, column by column."""
    *batch, n, _ = sizes(a)
    if not isinstance(n, int):
        op.refuse("the Cholesky factor of matrices whose size is not fixed")
    rows, zero = op.constant(np.arange(n)), op.number(0, a.dtype)
    matrix = op.swap(a, -1, -2) if upper else a

    def step(k: ir.Value, rest: ir.Value, factor: ir.Value) -> list[ir.Value]:
        place = op("Unsqueeze", k, [0])
        column = op("Gather", rest, place, axis=-1)
        pivot = op("Sqrt", op("Gather", column, place, axis=-2))
        below = op("Unsqueeze", op("GreaterOrEqual", rows, k), [-1])
        column = op("Where", below, column / pivot, zero)
        here = op("Equal", rows, k)
        factor = op("Where", here, column, factor)
        turned = op("Transpose", column, perm=[*range(len(batch)), len(batch) + 1, len(batch)])
        return [rest - column * turned, factor]

    start = op("Expand", zero, sizes(a))
    factor = repeat(op, op.number(n, ir.DataType.INT64), [matrix, start], step)[1]
    if upper:
        factor = op.swap(factor, -1, -2)
    return factor if op.name == "cholesky" else [factor, _no_error(op, a)]
