"""Doubts about a loss: what makes the numbers of its output does not suit it.

A loss of probabilities is computed of logits too, and one of logits of probabilities, and a model is trained by it; it
is seldom meant.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dlbridge.errors import DlbridgeWarning, TrainingError
from dlbridge.model import Model
from dlbridge.ops.keys import is_op, op_key
from dlbridge.training.formulas.loss_part import LossPart
from dlbridge.training.spec import TrainingSpec

_LOGITS, _PROBABILITIES, _LOGARITHMS, _ANY = "logits", "probabilities", "logarithms of probabilities", "any numbers"
#: What ops make.
_MADE = {
    **dict.fromkeys(("Softmax", "Sigmoid"), _PROBABILITIES),
    "LogSoftmax": _LOGARITHMS,
    **dict.fromkeys(("Linear", "Gemm", "MatMul", "Conv", "ConvTranspose"), _ANY),
    **dict.fromkeys(("BatchNormalization", "LayerNormalization", "Tanh"), _ANY),
}
#: What a loss reads, and what it is seldom meant to be computed of.
_SELDOM = {
    _LOGITS: (_PROBABILITIES,),
    _PROBABILITIES: (_LOGARITHMS, _ANY),
    _LOGARITHMS: (_PROBABILITIES, _ANY),
}
#: Ops that move numbers, or keep them as they are.
_KEEPS = ("Identity", "Cast", "Dropout", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
#: How far outside of 0 and 1 a probability may be by rounding.
_ROUNDING = 1e-3


def warn_of_doubts(model: Model, spec: TrainingSpec) -> None:
    """Warn of losses whose output does not suit them, as far as the graph tells."""
    for text in doubts(model, spec):
        warnings.warn(text, DlbridgeWarning, stacklevel=3)


def doubts(model: Model, spec: TrainingSpec) -> Iterator[str]:
    """What to know of the losses of a specification before a model is trained or measured by them."""
    for loss in spec.losses:
        output = next(value for value in model.outputs if loss.of in (None, value.name))
        maker = _maker(output)
        made = None if maker is None else _MADE.get(op_key(maker))
        if maker is not None and made in _SELDOM.get(_read(loss), ()):
            yield (
                f"the loss {loss.op} is of {_read(loss)}, and the output '{output.name}' is made by a {op_key(maker)}: "
                f"{made}\n  {_hint(loss)}"
            )


def check_probabilities(loss: LossPart, output: np.ndarray, name: str) -> None:
    """Check that what a loss of probabilities is computed of are probabilities.

    Raises:
        TrainingError: When a number is not from 0 to 1.
    """
    if _read(loss) != _PROBABILITIES:
        return
    wrong = (output < -_ROUNDING) | (output > 1 + _ROUNDING)
    if wrong.any():
        number = output[tuple(np.argwhere(wrong)[0])]
        raise TrainingError(
            f"the loss {loss.op} is of probabilities, and the output '{name}' has the number {number:.6g}",
            hint=_hint(loss),
        )


def _read(loss: LossPart) -> str:
    """What a loss reads."""
    if loss.op == "NegativeLogLikelihoodLoss":
        return _LOGARITHMS
    if loss.ending is None:
        return _LOGITS if loss.op == "SoftmaxCrossEntropyLoss" else _ANY
    return _LOGITS if loss.reads_logits else _PROBABILITIES


def _hint(loss: LossPart) -> str:
    if loss.op == "NegativeLogLikelihoodLoss":
        return "SoftmaxCrossEntropyLoss is of logits, SparseCategoricalCrossentropy of probabilities"
    if loss.op == "SoftmaxCrossEntropyLoss":
        return "of probabilities is SparseCategoricalCrossentropy, with the classes on the last axis"
    if loss.reads_logits:
        return f"of probabilities is {{op: {loss.op}}}, without from_logits"
    return f"of logits is {{op: {loss.op}, from_logits: true}}"


def _maker(output: ir.Value) -> ir.Node | None:
    """The node that makes the numbers of an output, before a bias is added and they are moved."""
    node = output.producer()
    while is_op(node, "Add", *_KEEPS):
        assert node is not None
        computed = [value for value in node.inputs if value is not None and value.producer() is not None]
        node = computed[0].producer() if is_op(node, *_KEEPS) or len(computed) == 1 else None
    return node
