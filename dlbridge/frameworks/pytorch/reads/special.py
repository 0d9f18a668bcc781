"""Special functions: ops of the domain ``dlbridge``, and functions made of these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import rank
from dlbridge.frameworks.pytorch.graph.control import repeat
from dlbridge.frameworks.pytorch.graph.reading import Op, reads, reads_unary
from dlbridge.ops.extension import DOMAIN

_UNARY = {
    "digamma": "Digamma",
    "erfc": "Erfc",
    "special_erfcx": "Erfcx",
    "erfinv": "Erfinv",
    "i0": "BesselI0",
    "special_i0e": "BesselI0e",
    "special_i1": "BesselI1",
    "special_i1e": "BesselI1e",
    "lgamma": "Lgamma",
    "special_bessel_j0": "BesselJ0",
    "special_bessel_j1": "BesselJ1",
    "special_bessel_y0": "BesselY0",
    "special_bessel_y1": "BesselY1",
    "special_modified_bessel_i0": "BesselI0",
    "special_modified_bessel_i1": "BesselI1",
    "special_modified_bessel_k0": "BesselK0",
    "special_modified_bessel_k1": "BesselK1",
    "special_ndtri": "Ndtri",
    "special_scaled_modified_bessel_k0": "BesselK0e",
    "special_scaled_modified_bessel_k1": "BesselK1e",
}
reads_unary(_UNARY, DOMAIN)


@reads("aten.special_zeta")
def zeta(op: Op, s: Any, q: Any) -> ir.Value:
    return op.extension("Zeta", op.cast(s), op.cast(q))


@reads("aten.polygamma")
def polygamma(op: Op, n: Any, x: Any) -> ir.Value:
    order, x = (n, x) if isinstance(n, int) else (x, n)  # the method has the tensor first
    x = op.cast(x)
    if order == 0:
        return op.extension("Digamma", x)
    return op.extension("Polygamma", op.number(order, op.dtype), x)


@reads("aten.special_spherical_bessel_j0")
def spherical_bessel_j0(op: Op, x: ir.Value) -> ir.Value:
    """sin(x) / x."""
    x = op.cast(x)
    none = op("Equal", x, 0)
    quotient = op("Sin", x) / op("Where", none, 1, x)
    return op("Where", op("IsInf", x), 0, op("Where", none, 1, quotient))


# --- orthogonal polynomials ----------------------------------------------------------------------------------------


def _linear(x: ir.Value, constant: float, slope: float) -> ir.Value:
    """constant + slope * x."""
    scaled = x if slope == 1 else x * slope
    return scaled if constant == 0 else scaled + constant


#: (x, k, the polynomials of degrees k and k - 1) -> that of degree k + 1.
_Step = Callable[[ir.Value, ir.Value, ir.Value, ir.Value], ir.Value]


def _chebyshev(x: ir.Value, k: ir.Value, now: ir.Value, before: ir.Value) -> ir.Value:
    return x * 2 * now - before


#: Kind -> (constant and slope of the polynomial of degree 1, the step from two degrees to the next).
_POLYNOMIALS: dict[str, tuple[tuple[float, float], _Step]] = {
    "chebyshev_polynomial_t": ((0, 1), _chebyshev),
    "chebyshev_polynomial_u": ((0, 2), _chebyshev),
    "chebyshev_polynomial_v": ((-1, 2), _chebyshev),
    "chebyshev_polynomial_w": ((1, 2), _chebyshev),
    "hermite_polynomial_h": ((0, 2), lambda x, k, now, before: (x * now - k * before) * 2),
    "hermite_polynomial_he": ((0, 1), lambda x, k, now, before: x * now - k * before),
    "laguerre_polynomial_l": ((1, -1), lambda x, k, now, before: ((k * 2 + 1 - x) * now - k * before) / (k + 1)),
    "legendre_polynomial_p": ((0, 1), lambda x, k, now, before: ((k * 2 + 1) * x * now - k * before) / (k + 1)),
}


@reads(
    *(f"aten.special_{name}" for name in _POLYNOMIALS),
    *(f"aten.special_shifted_chebyshev_polynomial_{k}" for k in "tuvw"),
)
def polynomial(op: Op, x: Any, n: Any) -> ir.Value:
    """Orthogonal polynomials by their three-term recurrence up to the largest degree; a negative degree gives 0."""
    x = op("Expand", op.cast(x), op.sizes)
    if "shifted" in op.name:
        x = _linear(x, -1, 2)
    (constant, slope), following = _POLYNOMIALS[op.name.removeprefix("special_").removeprefix("shifted_")]
    degree = op("Expand", op.cast(n, ir.DataType.INT64), op.sizes)
    ones = op.filled(1, op.dtype, op.sizes)
    first = _linear(x, constant, slope)
    made = op("Where", op("Less", degree, 0), 0, op("Where", op("Equal", degree, 0), 1, first))
    rounds = (op("ReduceMax", degree, keepdims=0) if rank(degree) else degree) - 1

    def step(k: ir.Value, now: ir.Value, before: ir.Value, made: ir.Value) -> list[ir.Value]:
        order = k + 1
        after = following(x, op.cast(order), now, before)
        return [after, now, op("Where", op("Equal", degree, order + 1), after, made)]

    return repeat(op, op("Max", rounds, 0), [first, ones, made], step)[2]
