"""``keras.ops`` that are losses: cross-entropies, and the peak signal-to-noise ratio."""

from __future__ import annotations

import math
from typing import Any

import keras
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite, operation
from dlbridge.frameworks.keras.reads.reduction import reduce
from dlbridge.ops.keys import is_op

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def _logits(site: CallSite, output: ir.Value) -> ir.Value | None:
    """The logits that a loss is computed from.

    Keras remembers what went into a softmax or sigmoid. Whatever ``from_logits`` says, and whichever loss it is, it
    takes that, and so does not clip the probabilities. ``convert_to_tensor``, which the functions of ``keras.losses``
    call first, gives back the very tensor; other identities (``stop_gradient``) do not.
    """
    node = output.producer()
    if node is not None and is_op(node, "Softmax", "Sigmoid"):
        return node.inputs[0]
    return output if site.source.from_logits else None


def _clipped(site: CallSite, probabilities: ir.Value) -> ir.Value:
    epsilon = keras.config.epsilon()
    return site.op("Clip", probabilities, epsilon, 1 - epsilon)


@operation("BinaryCrossentropy")
def binary_crossentropy(site: CallSite, target: Any, output: Any) -> ir.Value:
    output = site.tensor(output)
    (target,) = site.promoted(target, to=output.dtype)
    x = _logits(site, output)
    if x is not None:  # max(x, 0) - x * target + log(1 + exp(-|x|)), as TensorFlow has it
        return site.op("Relu", x) - x * target + site.op("Softplus", -site.op("Abs", x))
    p = _clipped(site, output)
    return -(target * site.op("Log", p) + (1.0 - target) * site.op("Log", 1.0 - p))


@operation("CategoricalCrossentropy")
def categorical_crossentropy(site: CallSite, target: Any, output: Any) -> ir.Value:
    output, axis = site.tensor(output), site.source.axis
    logits = _logits(site, output)
    if logits is not None:
        log = _log_softmax(site, logits, axis)
    else:
        total = reduce(site, "ReduceSum", output, axis, True)
        log = site.op("Log", _clipped(site, output / total))
    (target,) = site.promoted(target, to=log.dtype)
    return site.cast(-reduce(site, "ReduceSum", target * log, axis), output.dtype)


@operation("SparseCategoricalCrossentropy")
def sparse_categorical_crossentropy(site: CallSite, target: Any, output: Any) -> ir.Value:
    output, target = site.tensor(output), site.cast(site.tensor(target), ir.DataType.INT64)
    if site.axis(site.source.axis, site.rank(output)) != site.rank(output) - 1:
        site.refuse("classes along another axis than the last")  # so does TensorFlow
    logits = _logits(site, output)
    if logits is None:
        logits = site.op("Log", _clipped(site, output))
    if site.rank(target) < site.rank(output):
        target = site.unsqueeze(target, -1)
    log = site.op("GatherElements", _log_softmax(site, logits, -1), target, axis=-1)
    return site.cast(site.squeeze(-log, -1), output.dtype)


def _log_softmax(site: CallSite, x: ir.Value, axis: int) -> ir.Value:
    return site.op("LogSoftmax", site.cast(x, "float32") if x.dtype in _HALVES else x, axis=axis)


@operation("PSNR", operands=CallSite.common)
def psnr(site: CallSite, a: ir.Value, b: ir.Value) -> ir.Value:
    """20 log10(max_val) - 10 log10(mean((x1 - x2)^2))."""
    if not a.dtype.is_floating_point():
        site.refuse("the mean of squares of whole numbers, which TensorFlow rounds down")
    if not site.source.max_val > 0:
        site.refuse("a largest value that is not above zero")
    gap = a - b
    noise = site.op("Log", reduce(site, "ReduceMean", gap * gap, None)) * (10 / math.log(10))
    return 20 * math.log10(site.source.max_val) - noise
