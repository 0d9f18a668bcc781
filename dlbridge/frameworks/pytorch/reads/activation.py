"""Activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import rank, sizes
from dlbridge.frameworks.pytorch.graph.reading import Op, reads, reads_unary
from dlbridge.ops import formulas

_UNARY = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "silu": "Swish",
    "mish": "Mish",
    "hardswish": "HardSwish",
    "selu": "Selu",
    "softsign": "Softsign",
}
reads_unary(_UNARY)

#: ATen op -> the standard's op, and its attributes, of the arguments behind the tensor.
_WITH_ATTRIBUTES: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "celu": ("Celu", lambda alpha=1.0: {"alpha": float(alpha)}),
    "gelu": ("Gelu", lambda approximate="none": {"approximate": approximate}),
    "hardshrink": ("Shrink", lambda lambd=0.5: {"lambd": float(lambd), "bias": 0.0}),
    "hardsigmoid": ("HardSigmoid", lambda: {"alpha": 1 / 6, "beta": 0.5}),
    "leaky_relu": ("LeakyRelu", lambda negative_slope=0.01: {"alpha": float(negative_slope)}),
    "softshrink": ("Shrink", lambda lambd=0.5: {"lambd": float(lambd), "bias": float(lambd)}),
}


@reads(*(f"aten.{name}" for name in _WITH_ATTRIBUTES))
def with_attributes(op: Op, x: ir.Value, *args: Any, **named: Any) -> ir.Value:
    op_type, attributes = _WITH_ATTRIBUTES[op.name]
    return op(op_type, x, **attributes(*args, **named))


@reads("aten.relu6")
def relu6(op: Op, x: ir.Value) -> ir.Value:
    return op("Clip", x, 0, 6)


@reads("aten.hardtanh")
def hardtanh(op: Op, x: ir.Value, min_val: float = -1, max_val: float = 1) -> ir.Value:
    return op("Clip", x, min_val, max_val)


@reads("aten.rrelu")
def rrelu(op: Op, x: ir.Value, lower: float = 0.125, upper: float = 1 / 3, training: bool = False) -> ir.Value:
    if training:
        op.refuse("rrelu that is random at inference")
    return op("LeakyRelu", x, alpha=(lower + upper) / 2)


@reads("aten.elu")
def elu(op: Op, x: ir.Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> ir.Value:
    if input_scale != 1:
        op.refuse("elu with input_scale")
    result = op("Elu", x, alpha=float(alpha))
    return result if scale == 1 else result * scale


@reads("aten.prelu", "aten._prelu_kernel")
def prelu(op: Op, x: ir.Value, weight: ir.Value) -> ir.Value:
    """``where(x > 0, x, slope * x)``, with one slope or one per channel (axis 1)."""
    if not rank(x):  # the slope has an axis, which a number has not
        return op.squeeze(op("PRelu", op.unsqueeze(x, [0]), weight), [0])
    if rank(weight) == 1 and sizes(weight)[0] != 1 and rank(x) > 2:
        weight = op("Reshape", weight, [sizes(weight)[0], *[1] * (rank(x) - 2)])
    return op("PRelu", x, weight)


@reads("aten.softmax", "aten.special_softmax", "aten._softmax")
@reads("aten.log_softmax", "aten.special_log_softmax", "aten._log_softmax")
def softmax(op: Op, x: ir.Value, dim: int, dtype: Any = None) -> ir.Value:
    return op("LogSoftmax" if "log" in op.name else "Softmax", op.cast(x), axis=dim)


@reads("aten._safe_softmax")
def safe_softmax(op: Op, x: ir.Value, dim: int, dtype: Any = None) -> ir.Value:
    """Softmax that is 0 where the whole axis is minus infinity."""
    x = op.cast(x)
    nothing = op("Equal", op("ReduceMax", x, [dim], keepdims=1), -np.inf)
    return op("Where", nothing, 0, op("Softmax", x, axis=dim))


@reads("aten.softplus")
def softplus(op: Op, x: ir.Value, beta: float = 1, threshold: float = 20) -> ir.Value:
    """PyTorch returns x above the threshold; from 20 on the formula equals x up to rounding."""
    scaled = x if beta == 1 else x * beta
    result = op("Softplus", scaled)
    if beta != 1:
        result = result / beta
    return result if threshold >= 20 else op("Where", op("Greater", scaled, threshold), x, result)


@reads("aten.glu")
def glu(op: Op, x: ir.Value, dim: int = -1) -> ir.Value:
    return formulas.gated(op, x, dim)


@reads("aten.logit", "aten.special_logit")
def logit(op: Op, x: ir.Value, eps: float | None = None) -> ir.Value:
    x = op.cast(x)
    if eps is not None:
        x = op("Clip", x, eps, 1 - eps)
    return op("Log", x / (1 - x))
