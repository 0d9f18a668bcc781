"""``keras.ops`` of linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite, elementwise, operation
from dlbridge.frameworks.keras.reads.reduction import reduce
from dlbridge.frameworks.keras.reads.reshaping import pad
from dlbridge.frameworks.keras.reads.signal import frames

elementwise(
    CallSite.promoted,
    {
        "Matmul": "MatMul",
        "Det": "Det",
        "Outer": lambda site, a, b: site.op("Reshape", a, [-1, 1]) * site.op("Reshape", b, [1, -1]),
    },
)


@operation("Einsum")
def einsum(site: CallSite, *operands: Any, **_: Any) -> ir.Value:
    equation = site.source.subscripts.replace(" ", "")
    return site.op("Einsum", *site.promoted(*operands), equation=equation)


@operation("Dot", operands=CallSite.promoted)
def dot(site: CallSite, a: ir.Value, b: ir.Value) -> ir.Value:
    if not site.rank(a) or not site.rank(b):
        return a * b
    if site.rank(b) <= 2:
        return site.op("MatMul", a, b)
    return _tensordot(site, a, b, [site.rank(a) - 1], [site.rank(b) - 2])


@operation("Tensordot", operands=CallSite.promoted)
def tensordot(site: CallSite, a: ir.Value, b: ir.Value) -> ir.Value:
    axes = site.source.axes
    if isinstance(axes, int):
        left, right = list(range(site.rank(a) - axes, site.rank(a))), list(range(axes))
    else:
        left, right = ([i] if isinstance(i, int) else list(i) for i in axes)
    return _tensordot(site, a, b, left, right)


def _tensordot(site: CallSite, a: ir.Value, b: ir.Value, left: list[int], right: list[int]) -> ir.Value:
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    first = [next(letters) for _ in range(site.rank(a))]
    second = [next(letters) for _ in range(site.rank(b))]
    for i, j in zip(left, right, strict=True):
        second[j] = first[i]
    joined = set(first) & set(second)
    kept = [c for c in (*first, *second) if c not in joined]
    return site.op("Einsum", a, b, equation=f"{''.join(first)},{''.join(second)}->{''.join(kept)}")


@operation("Inner", operands=CallSite.promoted)
def inner(site: CallSite, a: ir.Value, b: ir.Value) -> ir.Value:
    if not site.rank(a) or not site.rank(b):
        return a * b
    return _tensordot(site, a, b, [site.rank(a) - 1], [site.rank(b) - 1])


@operation("Vdot")
def vdot(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    a, b = (site.op("Reshape", v, [-1]) for v in site.promoted(x1, x2))
    return site.op("ReduceSum", a * b, [0], keepdims=0)


@operation("Cross")
def cross(site: CallSite, x1: Any, x2: Any) -> ir.Value:
    kind, (a, b) = site.source, site.promoted(x1, x2)
    axis = kind.axisa  # what is given as ``axis`` stands in all three
    if not axis == kind.axisb == kind.axisc:
        site.refuse("vectors along axes that differ")
    if site.shape(a)[axis] != 3 or site.shape(b)[axis] != 3:
        site.refuse("vectors of other sizes than three")
    return cross_product(site, a, b, axis)


def cross_product(site: CallSite, a: ir.Value, b: ir.Value, axis: int) -> ir.Value:
    """Of vectors of three along an axis."""
    turns = [np.array(o, np.int64) for o in ([1, 2, 0], [2, 0, 1])]
    (a1, a2), (b1, b2) = ([site.op("Gather", v, t, axis=axis) for t in turns] for v in (a, b))
    return a1 * b2 - a2 * b1


@operation("Norm")
def norm(site: CallSite, x: Any) -> ir.Value:
    kind = site.source
    (x,) = site.promoted(x)
    return norm_of(site, x, kind.ord, kind.axis, kind.keepdims)


#: Order -> what is made of absolute values.
_NORMS = {np.inf: "ReduceMax", "inf": "ReduceMax", -np.inf: "ReduceMin", 1: "ReduceSum"}


def norm_of(site: CallSite, x: ir.Value, order: Any, axis: Any, keepdims: bool) -> ir.Value:
    """The norm of vectors, and the Frobenius norm of matrices."""
    count = len(site.axes(x, axis))
    if order in (None, 2, "fro") and not (order == 2 and count > 1 and axis is None):
        if order == 2 and count > 1:
            site.refuse("the spectral norm of a matrix")
        return site.op("Sqrt", reduce(site, "ReduceSum", x * x, axis, keepdims))
    if count > 1:
        return _matrix_norm(site, x, order, axis, keepdims)
    size = site.op("Abs", x)
    if order in _NORMS:
        return reduce(site, _NORMS[order], size, axis, keepdims)
    if order == 0:
        there = site.cast(site.op("Greater", size, 0.0), x.dtype)
        return reduce(site, "ReduceSum", there, axis, keepdims)
    total = reduce(site, "ReduceSum", site.op("Pow", size, float(order)), axis, keepdims)
    return site.op("Pow", total, 1 / float(order))


def _matrix_norm(site: CallSite, x: ir.Value, order: Any, axis: Any, keepdims: bool) -> ir.Value:
    """The largest (or least, for a negative order) sum of absolute values of a column, or of a row for infinity."""
    order = {"inf": np.inf, "-inf": -np.inf}.get(order, order)
    if order not in (1, -1, np.inf, -np.inf):
        site.refuse(f"the norm of order {order} of a matrix, which asks for singular values")
    rows, columns = (site.axis(int(a), site.rank(x)) for a in (axis if axis is not None else (-2, -1)))
    summed, compared = (rows, columns) if abs(order) == 1 else (columns, rows)
    sums = reduce(site, "ReduceSum", site.op("Abs", x), summed, True)
    found = reduce(site, "ReduceMax" if order > 0 else "ReduceMin", sums, compared, True)
    return found if keepdims else site.squeeze(found, *sorted((rows, columns)))


@operation("Slogdet", "Logdet", operands=CallSite.promoted)
def log_of_determinant(site: CallSite, x: ir.Value) -> Any:
    """Each row is first divided by its largest element: the determinant of a large matrix is beyond all floats."""
    size = site.shape(x)[-1]
    if not isinstance(size, int) or size > 64:
        site.refuse("the determinant of a matrix of more than 64 rows, or of a size that is not known")
    most = site.op("ReduceMax", site.op("Abs", x), [-1], keepdims=1)
    most = site.op("Where", site.op("Equal", most, 0.0), 1.0, most)
    det = site.op("Det", x / most)
    sign, size = site.op("Sign", det), site.op("Abs", det)
    logarithm = site.op("Log", size) + site.op("ReduceSum", site.op("Log", most), [-2, -1], keepdims=0)
    return logarithm if site.operation == "Logdet" else (sign, logarithm)


@operation("Kron", operands=CallSite.promoted)
def kron(site: CallSite, a: ir.Value, b: ir.Value) -> ir.Value:
    if site.dtype == ir.DataType.BOOL:
        site.refuse("arithmetic of truth values")
    rank = max(site.rank(a), site.rank(b))
    a, b = (site.unsqueeze(v, *range(rank - site.rank(v))) if site.rank(v) < rank else v for v in (a, b))
    if not rank:
        return a * b
    shape = site.op("Shape", a) * site.op("Shape", b)
    wide = [site.unsqueeze(v, *(2 * i + after for i in range(rank))) for v, after in ((a, 1), (b, 0))]
    return site.op("Reshape", site.op("Mul", *wide), shape)


@operation("Corrcoef")
def corrcoef(site: CallSite, x: Any) -> ir.Value:
    if site.tensor(x).dtype == ir.DataType.INT64:
        site.refuse("the correlation of int64, whose mean Keras on TensorFlow rounds")
    (x,) = site.promoted(x)
    if site.rank(x) != 2:
        site.refuse("the correlation of other than rows")
    gap = x - site.op("ReduceMean", x, [-1])
    product = site.op("MatMul", gap, site.transpose(gap, [1, 0]))
    scale = site.op("Sqrt", site.op("ReduceSum", gap * gap, [-1]))
    return site.op("Clip", product / (scale * site.transpose(scale, [1, 0])), -1.0, 1.0)


@operation("Correlate", operands=CallSite.promoted)
def correlate(site: CallSite, a: ir.Value, b: ir.Value) -> ir.Value:
    (n,), (m,) = site.shape(a), site.shape(b)
    site.require([n, m], "the correlation of signals whose sizes are not known")
    mode = site.source.mode
    if mode == "valid":
        if n < m:
            site.refuse("the correlation with a longer signal, which Keras on TensorFlow does not compute")
        return site.op("MatMul", frames(site, a, m, 1), b)
    y = site.op("MatMul", frames(site, pad(site, a, [0], [(m - 1, m - 1)]), m, 1), b)
    start = (n + m - 1 - max(n, m)) // 2
    return y if mode == "full" else site.slice(y, 0, start, start + max(n, m))
