"""``compile`` and ``fit``, as printed below a model that has a training specification."""

from __future__ import annotations

from typing import Any

from dlbridge.source.code import literal_text as text

_LOSSES = {
    "SparseCategoricalCrossentropy": '"sparse_categorical_crossentropy"',
    "CategoricalCrossentropy": '"categorical_crossentropy"',
    "MeanSquaredError": '"mean_squared_error"',
    "MeanAbsoluteError": '"mean_absolute_error"',
    "SoftmaxCrossEntropyLoss": "keras.losses.SparseCategoricalCrossentropy(from_logits=True)",
}
#: What Keras' own class takes when it is given no number.
_DEFAULTS = {
    "sgd": {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False},
    "adam": {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
    "adamw": {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "weight_decay": 0.004},
}
_CLASSES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}


def training_calls(spec: Any, inputs: list[str], *, eagerly: bool = False) -> list[str]:
    """A ``train`` function in Keras' own classes, with the numbers of a specification."""
    target = spec.loss.target or "label"
    names = [n if n != "model" else "model_input" for n in inputs]
    given = names[0] if len(names) == 1 else f"[{', '.join(names)}]"
    metrics = f", metrics=[{', '.join(text(m) for m in spec.metrics)}]" if spec.metrics else ""
    how = ", run_eagerly=True" if eagerly else ""
    fit = [given, target, f"epochs={spec.epochs}"]
    fit += [f"batch_size={spec.batch_size}"] if spec.batch_size != 32 else []
    fit += [f"validation_split={text(spec.validation_split)}"] if spec.validation_split else []
    fit += ["shuffle=False"] if not spec.shuffle else []
    return [
        f"def train(model, {', '.join(names)}, {target}):",
        f"    model.compile(optimizer={_optimizer(spec.optimizer)}, loss={_loss(spec.loss)}{metrics}{how})",
        f"    model.fit({', '.join(fit)})",
    ]


def _loss(spec: Any) -> str:
    if spec.op == "BinaryCrossentropy":
        return "keras.losses.BinaryCrossentropy(from_logits=True)" if spec.from_logits else '"binary_crossentropy"'
    if spec.op == "Huber":
        return f"keras.losses.Huber({text(spec.delta)})"
    return _LOSSES[spec.op]


def _optimizer(spec: Any) -> str:
    given = {k: getattr(spec, k) for k, default in _DEFAULTS[spec.kind].items() if getattr(spec, k) != default}
    if not given:
        return f'"{spec.kind}"'
    arguments = ", ".join(f"{name}={text(value)}" for name, value in given.items())
    return f"keras.optimizers.{_CLASSES[spec.kind]}({arguments})"
