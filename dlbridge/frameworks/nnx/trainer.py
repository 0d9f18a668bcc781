"""Trains in Flax NNX: one compiled function makes the gradient and the step, by the formulas of the specification."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dlbridge import frameworks
from dlbridge.errors import TrainingError
from dlbridge.frameworks.nnx.runner import compiled, load, lookup, weights, wide
from dlbridge.frameworks.nnx.training.functions import OPS
from dlbridge.model import Model
from dlbridge.source.devices import device_number
from dlbridge.source.training import trained
from dlbridge.source.training.regularized import of_weights

Arrays = dict[str, Any]


class Trainer:
    """A live module with its losses and optimizer. See ``dlbridge.frameworks.Trainer``."""

    def __init__(self, model: Model, task: Any, *, checkpoint: Any) -> None:
        self.task, self.spec = task, task.spec
        self.source = frameworks.get("nnx").write(model)
        self.device = _device(task.running.device)
        with self._place():
            self._prepare(checkpoint)

    def _prepare(self, checkpoint: Any) -> None:
        """Make the live module, what is remembered, and the functions that are compiled."""
        self.module = load(self.source)
        found = {key: lookup(self.module, key) for key in self.source.weights}
        #: Key of each weight that trains -> its variable; one that has two keys is here once.
        self.trained = {key: v for key, v in _once(found).items() if isinstance(v, nnx.Param)}
        paths = {id(variable): path for path, variable in nnx.iter_graph(self.module)}
        self.paths = {key: paths[id(variable)] for key, variable in self.trained.items()}
        self.weights = trained.settings(self.source, self.trained, self.spec.optimizer)
        self.regularized = {
            k: r for k, r in of_weights(self.source.model.graph, self.source.weights).items() if k in self.trained
        }
        self.step = checkpoint.step
        self.scaled = self.task.loss_scale(checkpoint.slots)
        with wide():
            self.slots = self._start(checkpoint.slots)
            gradient = nnx.value_and_grad(self._scaled_loss, argnums=nnx.DiffState(0, nnx.Param), has_aux=True)
            self.gradient = compiled(gradient)
            self.loss = compiled(self._loss)
            self.update = jax.jit(self._updated)

    def _place(self) -> Any:
        """The device that arrays are made on."""
        return jax.default_device(self.device) if self.device is not None else nullcontext()

    def epoch(self, data: Any) -> dict[str, float]:
        self.module.train()
        totals, steps = self.task.totals(), data.steps
        gradients: Arrays = {}
        if self.scaled is not None:
            self.scaled.skipped = 0
        with wide(), self._place():
            nnx.reseed(self.module, default=data.seed, dropout=data.seed)
            for place, (batch, n) in enumerate(zip(data.batches(), steps, strict=True), 1):
                scale = None if self.scaled is None else self.scaled.scale * n["share"]
                (_, (value, sums)), found = self.gradient(self.module, scale, *self._arrays(batch))
                by_path = dict(nnx.to_flat_state(found))
                new = {key: by_path[path][...] for key, path in self.paths.items()}
                if n["share"] != 1 and self.scaled is None:
                    new = {key: array * n["share"] for key, array in new.items()}
                gradients = {key: gradients[key] + array for key, array in new.items()} if gradients else new
                if n["is_step"] and self.scaled is not None and not self._is_step(self.scaled, gradients):
                    gradients = {}
                elif n["is_step"]:
                    skipped = 0 if self.scaled is None else self.scaled.skipped * self.spec.accumulate
                    row = steps[place - 1 - skipped]
                    values, self.slots = self.update(gradients, self._values(), self.slots, row)
                    for key, array in values.items():
                        self.trained[key].set_value(array)
                    self.step, gradients = self.step + 1, {}
                totals.add(float(value), sums, batch.rows)
                if self.task.running.on_step is not None:
                    self.task.running.on_step(place, float(value))
        self.module.eval()
        return totals.numbers()

    def evaluate(self, data: Any) -> dict[str, float]:
        totals = self.task.totals()
        with wide(), self._place():
            for batch in data.batches():
                value, sums = self.loss(self.module, *self._arrays(batch))
                totals.add(float(value), sums, batch.rows)
        return totals.numbers()

    def _loss(self, module: nnx.Module, inputs: list[Any], targets: list[Any], rows: list[Any]) -> tuple[Any, Any]:
        """The losses, with what is added to them for weights, and the sums of the metrics."""
        outputs = self.source.in_order(module(*inputs))
        value = self.task.loss(outputs, targets, rows, OPS, lambda loss: None)
        for key, regularized in self.regularized.items():
            value = value + regularized.added(lookup(module, key)[...], OPS)
        return value, self.task.sums(outputs, targets, OPS)

    def _scaled_loss(self, module: nnx.Module, scale: Any, *arrays: Any) -> tuple[Any, tuple[Any, Any]]:
        """The loss times the loss scale, for its gradient; and what :meth:`_loss` gives."""
        value, sums = self._loss(module, *arrays)
        return value if scale is None else value * scale, (value, sums)

    def _is_step(self, scaled: Any, gradients: Arrays) -> bool:
        """Divide the gradients by the loss scale; whether they are finite, so that the step is made."""
        for key, gradient in gradients.items():
            gradients[key] = gradient / scaled.scale
        return scaled.is_step(all(bool(jnp.isfinite(g).all()) for g in gradients.values()))

    def _updated(self, gradients: Arrays, values: Arrays, slots: dict[str, Arrays], n: Arrays) -> tuple[Arrays, Any]:
        """One step of the optimizer: the weights and what is remembered."""
        if self.spec.clip is not None:
            clipped = self.spec.clip.clipped(list(gradients.values()), OPS)
            gradients = dict(zip(gradients, clipped, strict=True))
        kept: dict[str, Arrays] = {}
        for key, g in gradients.items():
            numbers = {name: jnp.asarray(number, g.dtype) for name, number in n.items()}
            held = {slot: arrays[key] for slot, arrays in slots.items() if key in arrays}
            mean = held.pop("ema", None)
            value, new = self.spec.optimizer.step(g, values[key], held, numbers, self.weights[key], OPS)
            limit = self.regularized.get(key)
            values[key] = value = value if limit is None else limit.limited(value, OPS)
            if mean is not None:
                new = {**new, "ema": self.spec.ema * mean + (1 - self.spec.ema) * value}
            for slot, array in new.items():
                kept.setdefault(slot, {})[key] = array
        return values, kept

    def _values(self) -> Arrays:
        return {key: variable[...] for key, variable in self.trained.items()}

    def _arrays(self, batch: Any) -> tuple[list[Any], list[Any], list[Any]]:
        inputs = [jnp.asarray(batch.inputs[name]) for name in self.source.inputs]
        targets = [jnp.asarray(np.ascontiguousarray(target)) for target in batch.targets]
        return inputs, targets, [None if w is None else jnp.asarray(w) for w in batch.weights]

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], int]:
        held = {slot: {k: np.array(a) for k, a in arrays.items()} for slot, arrays in self.slots.items()}
        arrays = {key: np.array(array) for key, array in weights(self.module).items()}
        kept = trained.to_checkpoint(self.source, held)
        if self.scaled is not None:
            kept |= self.scaled.slots()
        return self.source.initializers(arrays), kept, self.step

    def _start(self, slots: dict[str, dict[str, np.ndarray]]) -> dict[str, Arrays]:
        """What is remembered at the start: zeros, or what a checkpoint has."""
        values = self._values()
        shapes = {key: value.shape for key, value in values.items()}
        found: dict[str, Arrays] = {}
        for slot, key, shape, array in trained.restored(self.source, self.spec, self.weights, shapes, slots):
            if array is not None:
                start = jnp.asarray(array)
            elif slot == "ema":
                start = values[key]
            else:
                start = jnp.full(shape, self.spec.optimizer.start, values[key].dtype)
            found.setdefault(slot, {})[key] = start
        return found


def _device(name: str | None) -> Any:
    """What JAX calls a device.

    Raises:
        TrainingError: When there is none of that name here.
    """
    if name is None:
        return None
    kind, number = device_number(name)
    try:
        return jax.devices("gpu" if kind == "cuda" else kind)[number]
    except (RuntimeError, IndexError):
        known = ", ".join(str(device) for device in jax.devices())
        raise TrainingError(f"JAX has no device '{name}' here; it has {known}") from None


def _once(variables: dict[str, nnx.Variable]) -> dict[str, nnx.Variable]:
    first = {id(variable): key for key, variable in reversed(variables.items())}
    return {key: variable for key, variable in variables.items() if first[id(variable)] == key}
