"""Trains in Keras, through ``fit``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from dlbridge.frameworks.keras import WriteOptions
from dlbridge.frameworks.keras.optimizers import optimizer
from dlbridge.frameworks.keras.runner import float_type, load, trainable_variables, weights
from dlbridge.frameworks.keras.writer import write
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.source.program import Source
from dlbridge.source.weights import to_initializers

#: Probabilities are kept this far from 0 and 1 before their logarithm is taken (as Keras' losses do).
PROBABILITY_MARGIN = 1e-7


class Trainer:
    """A compiled model. See ``dlbridge.frameworks.Trainer``."""

    def __init__(self, model: Model, spec: Any, *, from_logits: bool, checkpoint: Any) -> None:
        self.spec = spec
        self.source = write(model, WriteOptions())
        self.model = load(self.source)
        self.optimizer = optimizer(spec.optimizer)
        self.trained = trainable_variables(self.model)
        self.optimizer.build(self.model.trainable_variables)
        self.doubled = _of_two_biases(self.source, self.trained)
        self.optimizer.twice = {self._index(self.trained[key]) for key in self.doubled}
        self.optimizer.iterations.assign(checkpoint.step)
        self._restore(checkpoint.slots)
        keras.utils.set_random_seed(spec.seed)
        dtype = self.model.outputs[0].dtype
        metrics = [_Metric(name, dtype, spec.loss.op, from_logits) for name in spec.metrics]
        self.model.compile(optimizer=self.optimizer, loss=_Loss(spec.loss, from_logits, dtype), metrics=metrics)

    def epoch(self, data: Any) -> dict[str, float]:
        with float_type(self.source):
            history = self.model.fit(
                self._inputs(data), data.target, batch_size=self.spec.batch_size, shuffle=False, verbose=0
            )
        return {name: float(history.history[name][-1]) for name in ("loss", *self.spec.metrics)}

    def evaluate(self, data: Any) -> dict[str, float]:
        with float_type(self.source):
            numbers = self.model.evaluate(
                self._inputs(data), data.target, batch_size=self.spec.batch_size, verbose=0, return_dict=True
            )
        return {name: float(numbers[name]) for name in ("loss", *self.spec.metrics)}

    def _inputs(self, data: Any) -> Any:
        arrays = [data.inputs[name] for name in self.source.inputs]
        return arrays if len(arrays) > 1 else arrays[0]

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], int]:
        known = self.source.model.weights
        slots: dict[str, dict[str, np.ndarray]] = {}
        for name, attribute in self.optimizer.slots.items():
            held = {
                key: np.array(ops.convert_to_numpy(getattr(self.optimizer, attribute)[self._index(variable)]))
                for key, variable in self.trained.items()
                if getattr(self.optimizer, attribute)
            }
            if held:
                chosen = {k: self.source.weights[k] for k in held}
                zeros = {v.initializer: np.zeros_like(known[v.initializer]) for w in chosen.values() for v in w.views}
                slots[name] = to_initializers(chosen, held, zeros)
                for key in self.doubled & held.keys():
                    for view in self.source.weights[key].views[1:]:
                        view.write(slots[name][view.initializer], held[key])
        arrays = {key: np.array(array) for key, array in weights(self.model).items()}
        return self.source.initializers(arrays), slots, int(self.optimizer.iterations)

    def _index(self, variable: Any) -> int:
        return self.optimizer._get_variable_index(variable)

    def _restore(self, slots: dict[str, dict[str, np.ndarray]]) -> None:
        """Give the optimizer the state that a checkpoint holds."""
        for name, attribute in self.optimizer.slots.items():
            for key, variable in self.trained.items():
                weight = self.source.weights[key]
                if name in slots and all(v.initializer in slots[name] for v in weight.views):
                    getattr(self.optimizer, attribute)[self._index(variable)].assign(
                        weight.views[0].read(slots[name][weight.views[0].initializer])
                    )


def _of_two_biases(source: Source, trained: Mapping[str, Any]) -> set[str]:
    """The keys of Keras' one bias of a recurrent layer, where the model has two that both train (``traits.BIASES``)."""
    nodes = [node for node in source.model.graph if node.metadata_props.get(traits.BIASES) == "two"]
    both = {value.name for node in nodes for value in node.inputs if value is not None}
    return {k for k in trained if len(source.weights[k].views) > 1 and source.weights[k].views[0].initializer in both}


class _Loss(keras.losses.Loss):
    """The loss of a specification, by its formula, in the output's dtype."""

    def __init__(self, spec: Any, from_logits: bool, dtype: str) -> None:
        super().__init__(name="loss", dtype=dtype)
        self.spec, self.from_logits = spec, from_logits

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        # Keras' own gives class numbers the output's dtype, and bfloat16 has whole numbers to 256 alone.
        is_numbers = "float" in keras.backend.standardize_dtype(y_true.dtype)
        y_true = ops.cast(y_true, y_pred.dtype) if is_numbers else y_true
        return ops.mean(self.call(y_true, y_pred))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        match self.spec.op:
            case "SoftmaxCrossEntropyLoss":
                y_true = ops.moveaxis(y_true, 1, -1) if len(y_true.shape) == len(y_pred.shape) else y_true
                return _cross_entropy(self._logarithm(ops.moveaxis(y_pred, 1, -1)), y_true, self.spec.op)
            case "SparseCategoricalCrossentropy" | "CategoricalCrossentropy":
                return _cross_entropy(self._logarithm(y_pred), y_true, self.spec.op)
            case "BinaryCrossentropy":
                return _binary(y_pred, ops.reshape(y_true, ops.shape(y_pred)), self.from_logits)
        error = y_pred - ops.reshape(y_true, ops.shape(y_pred))
        match self.spec.op:
            case "MeanSquaredError":
                return ops.square(error)
            case "MeanAbsoluteError":
                return ops.abs(error)
            case "Huber":
                size, delta = ops.abs(error), ops.convert_to_tensor(self.spec.delta, dtype=y_pred.dtype)
                half = ops.convert_to_tensor(0.5, dtype=y_pred.dtype)
                return ops.where(size <= delta, half * ops.square(error), delta * (size - half * delta))
        raise AssertionError(self.spec.op)

    def _logarithm(self, y_pred: Any) -> Any:
        if self.from_logits:
            return ops.log_softmax(y_pred, axis=-1)
        y_pred = y_pred / ops.sum(y_pred, axis=-1, keepdims=True)
        return ops.log(_within_margin(y_pred))


def _within_margin(p: Any) -> Any:
    low, high = (ops.convert_to_tensor(n, dtype=p.dtype) for n in (PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN))
    return ops.minimum(ops.maximum(p, low), high)


def _cross_entropy(logarithm: Any, y_true: Any, op: str) -> Any:
    rank = len(logarithm.shape)
    if op == "SparseCategoricalCrossentropy" or (op == "SoftmaxCrossEntropyLoss" and len(y_true.shape) == rank - 1):
        labels = ops.one_hot(ops.cast(y_true, "int32"), logarithm.shape[-1], dtype=logarithm.dtype)
        y_true = ops.reshape(labels, ops.shape(logarithm))
    return -ops.sum(y_true * logarithm, axis=-1)


def _binary(y_pred: Any, y_true: Any, from_logits: bool) -> Any:
    if from_logits:
        return ops.maximum(y_pred, 0) - y_pred * y_true + ops.log1p(ops.exp(-ops.abs(y_pred)))
    p = _within_margin(y_pred)
    return -(y_true * ops.log(p) + (1 - y_true) * ops.log(1 - p))


class _Metric(keras.metrics.Metric):
    """The mean of a metric over rows."""

    def __init__(self, name: str, dtype: str, loss: str, from_logits: bool) -> None:
        dtype = "float64" if dtype == "float64" else "float32"  # bfloat16 does not count beyond 256
        super().__init__(name=name, dtype=dtype)
        self.binary, self.axis = loss == "BinaryCrossentropy", 1 if loss == "SoftmaxCrossEntropyLoss" else -1
        self.formula: Callable[..., Any] = getattr(self, f"_{name}")
        self.threshold = 0.0 if from_logits else 0.5
        self.total = self.add_weight(name="total", initializer="zeros", dtype=dtype)
        self.rows = self.add_weight(name="rows", initializer="zeros", dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        rows = ops.cast(ops.shape(y_true)[0], self.dtype)
        self.total.assign_add(ops.cast(self.formula(y_true, y_pred), self.dtype) * rows)
        self.rows.assign_add(rows)

    def result(self) -> Any:
        return self.total / self.rows

    def _accuracy(self, y_true: Any, y_pred: Any) -> Any:
        if self.binary:
            y_true = ops.cast(ops.reshape(y_true, ops.shape(y_pred)), y_pred.dtype)
            right = (y_pred > self.threshold) == (y_true > 0.5)
        else:
            classes = ops.argmax(y_true, axis=self.axis) if len(y_true.shape) == len(y_pred.shape) else y_true
            right = ops.argmax(y_pred, axis=self.axis) == ops.cast(classes, "int32")
        return ops.mean(ops.cast(right, self.dtype))

    def _mean_absolute_error(self, y_true: Any, y_pred: Any) -> Any:
        return ops.mean(ops.abs(y_pred - ops.cast(ops.reshape(y_true, ops.shape(y_pred)), y_pred.dtype)))

    def _mean_squared_error(self, y_true: Any, y_pred: Any) -> Any:
        return ops.mean(ops.square(y_pred - ops.cast(ops.reshape(y_true, ops.shape(y_pred)), y_pred.dtype)))
