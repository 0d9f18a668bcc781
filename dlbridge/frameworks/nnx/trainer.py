"""Trains in Flax NNX: ``nnx.value_and_grad``, and Optax for the optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dlbridge import frameworks
from dlbridge.frameworks.nnx.regularizing import limited, penalty
from dlbridge.frameworks.nnx.runner import compiled, load, lookup, weights, wide
from dlbridge.model import Model
from dlbridge.source.regularized import of_weights
from dlbridge.source.weights import to_initializers

#: Probabilities are kept this far from 0 and 1 before their logarithm is taken (as Keras does).
PROBABILITY_MARGIN = 1e-7
#: The neutral name of what an optimizer remembers -> Optax' name.
SLOTS = {"momentum": "trace", "m": "mu", "v": "nu"}

Arrays = dict[str, Any]


class Trainer:
    """A live module with its loss and optimizer. See ``dlbridge.frameworks.Trainer``."""

    def __init__(self, model: Model, spec: Any, *, from_logits: bool, checkpoint: Any) -> None:
        self.spec, self.from_logits = spec, from_logits
        self.source = frameworks.get("nnx").write(model)
        self.module = load(self.source)
        self.loss = loss(spec.loss, from_logits)
        found = {key: lookup(self.module, key) for key in self.source.weights}
        #: Key of each weight that trains -> its variable; one that has two keys is here once.
        self.trained = {key: v for key, v in _once(found).items() if isinstance(v, nnx.Param)}
        paths = {id(variable): path for path, variable in nnx.iter_graph(self.module)}
        self.paths = {key: paths[id(variable)] for key, variable in self.trained.items()}
        self.regularized = {
            k: r for k, r in of_weights(self.source.model.graph, self.source.weights).items() if k in self.trained
        }
        self.optimizer = optimizer(spec.optimizer)
        self.step = checkpoint.step
        with wide():
            nnx.reseed(self.module, default=spec.seed, dropout=spec.seed)
            self.state_of_optimizer = self._restored(self.optimizer.init(self._values()), checkpoint.slots)
            gradient = nnx.value_and_grad(self._loss, argnums=nnx.DiffState(0, nnx.Param), has_aux=True)
            self.gradient = compiled(gradient)
            self.update = jax.jit(self.optimizer.update)

    def epoch(self, data: Any) -> dict[str, float]:
        self.module.train()
        totals = _Totals(self.spec, self.from_logits)
        with wide():
            for inputs, target in data.batches():
                (value, output), gradients = self.gradient(self.module, self._inputs(inputs), self._target(target))
                self._apply(nnx.to_flat_state(gradients))
                self.step += 1
                totals.add(float(value), np.asarray(output), target)
        self.module.eval()
        return totals.means()

    def evaluate(self, data: Any) -> dict[str, float]:
        totals = _Totals(self.spec, self.from_logits)
        with wide():
            for inputs, target in data.batches():
                value, output = self._loss(self.module, self._inputs(inputs), self._target(target))
                totals.add(float(value), np.asarray(output), target)
        return totals.means()

    def _loss(self, module: nnx.Module, inputs: list[Any], target: Any) -> tuple[Any, Any]:
        """The loss, with what is added to it for weights, and the output."""
        output = module(*inputs)
        value = self.loss(output, target)
        for key, regularized in self.regularized.items():
            value = value + penalty(regularized, lookup(module, key)[...])
        return value, output

    def _apply(self, gradients: Any) -> None:
        """One step of the optimizer."""
        by_path = dict(gradients)
        found = {key: by_path[path][...] for key, path in self.paths.items()}
        values = self._values()
        updates, self.state_of_optimizer = self.update(found, self.state_of_optimizer, values)
        for key, value in optax.apply_updates(values, updates).items():
            kept = self.regularized.get(key)
            self.trained[key].set_value(value if kept is None else limited(kept, value))

    def _values(self) -> Arrays:
        return {key: variable[...] for key, variable in self.trained.items()}

    def _inputs(self, inputs: dict[str, np.ndarray]) -> list[Any]:
        return [jnp.asarray(inputs[name]) for name in self.source.inputs]

    def _target(self, target: np.ndarray) -> Any:
        return jnp.asarray(np.ascontiguousarray(target))

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], int]:
        known = self.source.model.weights
        slots: dict[str, dict[str, np.ndarray]] = {}
        for name in self.spec.optimizer.slots:
            held = {key: np.array(array) for key, array in self._slot(SLOTS[name]).items()}
            chosen = {key: self.source.weights[key] for key in held}
            zeros = {v.initializer: np.zeros_like(known[v.initializer]) for w in chosen.values() for v in w.views}
            slots[name] = to_initializers(chosen, held, zeros)
        arrays = {key: np.array(array) for key, array in weights(self.module).items()}
        return self.source.initializers(arrays), slots if self.step else {}, self.step

    def _slot(self, name: str) -> Arrays:
        return next(getattr(part, name) for part in self.state_of_optimizer if hasattr(part, name))

    def _restored(self, state: Any, slots: dict[str, dict[str, np.ndarray]]) -> Any:
        """The optimizer's state with what a checkpoint holds."""
        parts = list(state)
        for name in self.spec.optimizer.slots & slots.keys():
            index = next(i for i, part in enumerate(parts) if hasattr(part, SLOTS[name]))
            held = dict(getattr(parts[index], SLOTS[name]))
            for key in held:
                weight = self.source.weights[key]
                if all(view.initializer in slots[name] for view in weight.views):
                    held[key] = jnp.asarray(weight.read(slots[name]), held[key].dtype)
            counted = {"count": jnp.asarray(self.step, jnp.int32)} if hasattr(parts[index], "mu") else {}
            parts[index] = parts[index]._replace(**{SLOTS[name]: held}, **counted)
        return tuple(parts)


def _once(variables: dict[str, nnx.Variable]) -> dict[str, nnx.Variable]:
    first = {id(variable): key for key, variable in reversed(variables.items())}
    return {key: variable for key, variable in variables.items() if first[id(variable)] == key}


class _Totals:
    """Means of the loss and the metrics over batches, each batch weighing as many as it has rows."""

    def __init__(self, spec: Any, from_logits: bool) -> None:
        self.spec, self.threshold = spec, 0.0 if from_logits else 0.5
        self.sums: dict[str, float] = {}
        self.rows = 0

    def add(self, value: float, output: np.ndarray, target: np.ndarray) -> None:
        numbers = {"loss": value} | {name: self._metric(name, output, target) for name in self.spec.metrics}
        for name, number in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + number * len(target)
        self.rows += len(target)

    def means(self) -> dict[str, float]:
        return {name: total / self.rows for name, total in self.sums.items()}

    def _metric(self, name: str, output: np.ndarray, target: np.ndarray) -> float:
        if name == "accuracy":
            return float(self._right(output, target).mean())
        error = output.astype(np.float64) - target.reshape(output.shape)
        return float(np.abs(error).mean() if name == "mean_absolute_error" else np.square(error).mean())

    def _right(self, output: np.ndarray, target: np.ndarray) -> np.ndarray:
        if self.spec.loss.op == "BinaryCrossentropy":
            return (output > self.threshold) == (target.reshape(output.shape) > 0.5)
        axis = 1 if self.spec.loss.op == "SoftmaxCrossEntropyLoss" else -1
        classes = target.argmax(axis) if target.ndim == output.ndim else target
        return output.argmax(axis) == classes


def loss(spec: Any, from_logits: bool) -> Callable[[Any, Any], Any]:
    """The loss of a specification: (output, target) -> its mean."""
    match spec.op:
        case "SoftmaxCrossEntropyLoss":
            return lambda y, t: _cross_entropy(jax.nn.log_softmax(jnp.moveaxis(y, 1, -1)), _classes_last(y, t))
        case "SparseCategoricalCrossentropy" | "CategoricalCrossentropy":
            logarithm = jax.nn.log_softmax if from_logits else _logarithm
            return lambda y, t: _cross_entropy(logarithm(y), t)
        case "BinaryCrossentropy":
            binary = optax.sigmoid_binary_cross_entropy if from_logits else _binary
            return lambda y, t: binary(y, t.reshape(y.shape).astype(y.dtype)).mean()
        case "MeanSquaredError":
            return lambda y, t: jnp.square(y - t.reshape(y.shape)).mean()
        case "MeanAbsoluteError":
            return lambda y, t: jnp.abs(y - t.reshape(y.shape)).mean()
        case "Huber":
            return lambda y, t: optax.huber_loss(y, t.reshape(y.shape), spec.delta).mean()
    raise AssertionError(spec.op)


def _classes_last(output: Any, target: Any) -> Any:
    return jnp.moveaxis(target, 1, -1) if target.ndim == output.ndim else target


def _within_margin(p: Any) -> Any:
    return jnp.clip(p, PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)


def _logarithm(p: Any) -> Any:
    return jnp.log(_within_margin(p / p.sum(-1, keepdims=True)))


def _cross_entropy(logarithm: Any, target: Any) -> Any:
    if target.ndim < logarithm.ndim:
        chosen = jnp.take_along_axis(logarithm, target[..., None].astype(int), axis=-1)
        return -chosen.mean()
    return -(target * logarithm).sum(-1).mean()


def _binary(p: Any, target: Any) -> Any:
    p = _within_margin(p)
    return -(target * jnp.log(p) + (1 - target) * jnp.log(1 - p))


def optimizer(spec: Any) -> optax.GradientTransformation:
    """The optimizer of a specification. Optax' classes compute the formulas of ``dlbridge.training.spec``."""
    match spec.kind:
        case "sgd":
            return optax.sgd(spec.learning_rate, spec.momentum or None, spec.nesterov)
        case "adam":
            return optax.adam(spec.learning_rate, spec.beta_1, spec.beta_2, spec.epsilon)
        case "adamw":
            betas = spec.beta_1, spec.beta_2
            return optax.adamw(spec.learning_rate, *betas, spec.epsilon, weight_decay=spec.weight_decay)
    raise AssertionError(spec.kind)
