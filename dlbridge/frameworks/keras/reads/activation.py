"""Activations: as layers, and as operations (what a layer's ``activation=`` is recorded as)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite, elementwise, layer, operation
from dlbridge.ops import formulas

#: Operation -> the standard's op with the same formula and no attribute.
_PLAIN = {"Sigmoid": "Sigmoid", "Softplus": "Softplus", "Softsign": "Softsign", "Silu": "Swish", "Selu": "Selu"}
_PLAIN |= {"HardSilu": "HardSwish", "Tanh": "Tanh", "Relu": "Relu", "Mish": "Mish"}
elementwise(CallSite.floats, _PLAIN | {"LogSigmoid": formulas.log_sigmoid})
elementwise(
    CallSite.tensors,
    {
        "Relu6": lambda site, x: site.op("Clip", x, 0.0, 6.0),
        "HardTanh": lambda site, x: site.op("Clip", x, -1.0, 1.0),
        "TanhShrink": lambda site, x: x - site.op("Tanh", x),
        "SparseSigmoid": lambda site, x: site.op("Clip", (x + 1.0) * 0.5, 0.0, 1.0),
    },
)


#: Operation -> (the standard's op, its attributes as functions of the operation's settings).
_WITH_SETTINGS: dict[str, tuple[str, dict[str, Callable[[Any], Any]]]] = {
    "LeakyRelu": ("LeakyRelu", {"alpha": lambda kind: float(kind.negative_slope)}),
    "Elu": ("Elu", {"alpha": lambda kind: float(kind.alpha)}),
    "Celu": ("Celu", {"alpha": lambda kind: float(kind.alpha)}),
    "Gelu": ("Gelu", {"approximate": lambda kind: "tanh" if kind.approximate else "none"}),
    "HardSigmoid": ("HardSigmoid", {"alpha": lambda kind: 1 / 6, "beta": lambda kind: 0.5}),  # relu6(x + 3) / 6
    "HardShrink": ("Shrink", {"lambd": lambda kind: float(kind.threshold), "bias": lambda kind: 0.0}),
    "SoftShrink": ("Shrink", dict.fromkeys(("lambd", "bias"), lambda kind: float(kind.threshold))),
}


@operation(*_WITH_SETTINGS)
def with_settings(site: CallSite, x: ir.Value) -> ir.Value:
    op_type, settings = _WITH_SETTINGS[site.operation]
    return site.op(op_type, x, **{name: value(site.source) for name, value in settings.items()})


@operation("Threshold")
def threshold(site: CallSite, x: ir.Value) -> ir.Value:
    return formulas.threshold(site, x, float(site.source.threshold), float(site.source.default_value))


@operation("Glu")
def glu(site: CallSite, x: ir.Value) -> ir.Value:
    return formulas.gated(site, x, site.source.axis)


@operation("Squareplus")
def squareplus(site: CallSite, x: ir.Value) -> ir.Value:
    """(x + sqrt(x^2 + b)) / 2."""
    return (x + site.op("Sqrt", x * x + float(site.source.b))) / 2.0


@operation("SparsePlus")
def sparse_plus(site: CallSite, x: ir.Value) -> ir.Value:
    """0 up to -1, (x + 1)^2 / 4 up to 1, then x."""
    y = x + 1.0
    upper = site.op("Where", site.op("Less", x, 1.0), y * y / 4.0, x)
    return site.op("Where", site.op("LessOrEqual", x, -1.0), 0.0, upper)


@operation("Softmax", "LogSoftmax")
def softmax(site: CallSite, x: ir.Value) -> ir.Value:
    """Along an axis; for None, of all elements."""
    whole, axis = site.along(x, site.source.axis)
    y = site.op(site.operation, whole, axis=axis if axis != site.rank(whole) - 1 else -1)
    return site.op("Reshape", y, site.op("Shape", x)) if site.source.axis is None else y


@operation("Sparsemax")
def sparsemax(site: CallSite, x: ir.Value) -> ir.Value:
    """max(x - tau, 0) as Keras has it (Martins and Astudillo, 2016, algorithm 1).

    Keras 3.15 takes for tau the sum of all partial sums of the support where the paper has the last of them, so its
    result sums to one only where the support is one element. What Keras computes is what is read.
    """
    rank = site.rank(x)
    axis = site.axis(site.source.axis, rank)
    ordered, _ = site.op("TopK", x, site.size(x, axis), axis=axis, outputs=2)
    shape = [1] * rank
    shape[axis] = -1
    places = site.op("Reshape", site.cast(site.steps(x, axis) + 1, x.dtype), shape)
    sums = site.op("CumSum", ordered, axis)
    inside = site.cast(site.op("Greater", places * ordered + 1.0, sums), x.dtype)
    tau = (site.op("ReduceSum", inside * sums, [axis]) - 1.0) / site.op("ReduceSum", inside, [axis])
    return site.op("Relu", x - tau)


@operation("ReLU")
def general_relu(site: CallSite, x: ir.Value) -> ir.Value:
    """x from a start on, slope * (x - start) below it, at most so large."""
    kind = site.source
    slope, start, largest = float(kind.negative_slope or 0.0), float(kind.threshold or 0.0), kind.max_value
    if start == 0.0 and slope == 0.0:
        return site.op("Relu", x) if largest is None else site.op("Clip", x, 0.0, largest)
    if start == 0.0:
        y = site.op("LeakyRelu", x, alpha=slope)
    else:
        below = (x - start) * slope
        y = site.op("Where", site.op("GreaterOrEqual" if slope else "Greater", x, start), x, below)
    return y if largest is None else site.op("Min", y, float(largest))


@layer("PReLU", masks=True)
def prelu(site: CallSite) -> ir.Value:
    return site.layer_op("PRelu", site.x, site.weight(site.layer.alpha, "weight"))
