"""``compile`` and ``fit``, as printed below a model that has a training specification."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

import keras
import onnx_ir as ir

from dlbridge.frameworks.keras.training.losses import reads_behind
from dlbridge.frameworks.keras.training.optimizers import OWN, own_class
from dlbridge.ops import traits
from dlbridge.source.names import snake_case
from dlbridge.source.training.code import TrainingPrinter
from dlbridge.source.training.text import Loop, changed_arguments, shown_metrics
from dlbridge.source.tree.code import literal_text as text

#: The losses that Keras has a class of its own for.
LOSSES = (
    *("SoftmaxCrossEntropyLoss", "SparseCategoricalCrossentropy", "CategoricalCrossentropy", "BinaryCrossentropy"),
    *("MeanSquaredError", "MeanAbsoluteError", "Huber"),
)


def printer(*, eagerly: bool = False) -> TrainingPrinter:
    """What prints ``compile`` and ``fit``; ``eagerly`` for models that run without a graph of TensorFlow."""
    lines = functools.partial(_lines, eagerly=eagerly)
    taken = ("model", "keras", "layers", "ops", "math")
    return TrainingPrinter(LOSSES, _optimizers, taken, lines, has_loop=False, lacks=_lacks)


def _lacks(spec: Any, output: ir.Value) -> str | None:
    """What Keras' own loss does otherwise."""
    loss = spec.losses[0]
    return f"{loss.op} of what a Softmax or Sigmoid returns" if reads_behind(loss, output) else None


def _optimizers(spec: Any) -> Collection[str]:
    """The kinds of optimizers that Keras has with the settings that a specification wants: its own, or none."""
    return () if own_class(spec) is None else (spec.kind,)


def _lines(loop: Loop, *, eagerly: bool) -> list[str]:
    """A ``train`` function in Keras' own classes, with the numbers of a specification."""
    spec, outputs = loop.spec, loop.outputs
    names, read, formula = loop.names, loop.output, loop.loss
    given = names[0] if len(names) == 1 else f"[{', '.join(names)}]"
    loss, metrics = _loss(formula, read), [metric_code(name, formula, read) for name in shown_metrics(spec)]
    shown = f"[{', '.join(metrics)}]"
    target = loop.target
    if loop.key is not None:
        loss, shown, target = (f"{{{loop.key}: {what}}}" for what in (loss, shown, target))
    elif len(outputs) > 1:
        loss = f"[{', '.join(loss if v is read else 'None' for v in outputs)}]"
        shown = f"[{', '.join(shown if v is read else 'None' for v in outputs)}]"
    shown = f", metrics={shown}" if metrics else ""
    how = ", run_eagerly=True" if eagerly else ""
    fit = [given, target, f"epochs={spec.epochs}"]
    fit += [f"batch_size={spec.batch_size}"] if spec.batch_size != 32 else []
    fit += [f"validation_split={text(spec.validation_split)}"] if spec.validation_split else []
    fit += ["shuffle=False"] if not spec.shuffle else []
    return [
        f"    model.compile(optimizer={optimizer_call(spec.optimizer)}, loss={loss}{shown}{how})",
        f"    model.fit({', '.join(fit)})",
    ]


def _channels_first(spec: Any, output: ir.Value) -> bool:
    """Whether the loss has the classes on axis 1, and there are more axes behind it."""
    moved = output.metadata_props.get(traits.LAYOUT) == "channels_last"
    return spec.op == "SoftmaxCrossEntropyLoss" and len(output.shape or ()) > 2 and not moved


def _loss(spec: Any, output: ir.Value) -> str:
    if _channels_first(spec, output):
        return "channels_first_cross_entropy"
    return loss_code(spec.op, spec)


def loss_code(op: str, loss: Any) -> str:
    """What names a loss, ``op``, of Keras' own classes; its settings are those of ``loss``."""
    if loss.reads_logits:
        kind = "SparseCategoricalCrossentropy" if op == "SoftmaxCrossEntropyLoss" else op
        return f"keras.losses.{kind}(from_logits=True)"
    if op == "Huber":
        return f"keras.losses.Huber({text(loss.delta)})"
    return f'"{snake_case(op)}"'


def metric_code(name: str, spec: Any, output: ir.Value) -> str:
    """What names a metric beside a loss."""
    if name == "accuracy" and _channels_first(spec, output):
        return "channels_first_accuracy"
    if name == "accuracy" and spec.op == "BinaryCrossentropy":
        return "keras.metrics.BinaryAccuracy(threshold=0.0)" if spec.from_logits else '"binary_accuracy"'
    return text(name)


def optimizer_call(spec: Any, *more: str) -> str:
    """What names the optimizer of a specification, of Keras' own classes; ``more`` are further arguments."""
    own, arguments = OWN[spec.kind], optimizer_arguments(spec, *more)
    return f"keras.optimizers.{own.name}({arguments})" if arguments else f'"{own.name.lower()}"'


def optimizer_arguments(spec: Any, *more: str) -> str:
    """The arguments of Keras' class for an optimizer, without those that are its defaults."""
    own = OWN[spec.kind]
    numbers = {"learning_rate": spec.learning_rate} | {name: getattr(spec, of) for name, of in own.arguments.items()}
    if spec.weight_decay and spec.decay == "decoupled":
        numbers["weight_decay"] = spec.weight_decay
    return ", ".join((*changed_arguments(getattr(keras.optimizers, own.name), numbers), *more))
