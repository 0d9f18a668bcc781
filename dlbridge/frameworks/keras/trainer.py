"""Trains in Keras, through ``fit``."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from dlbridge.errors import TrainingError
from dlbridge.frameworks.keras import WriteOptions
from dlbridge.frameworks.keras.runner import float_type, load, trainable_variables, weights
from dlbridge.frameworks.keras.training import functions, losses
from dlbridge.frameworks.keras.training.feeding import Feed
from dlbridge.frameworks.keras.training.optimizers import Optimizer
from dlbridge.frameworks.keras.writer import write
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.source.devices import device_number
from dlbridge.source.training import trained


class Trainer:
    """A compiled model. See ``dlbridge.frameworks.Trainer``."""

    def __init__(self, model: Model, task: Any, *, checkpoint: Any) -> None:
        self.task, self.spec = task, task.spec
        self.source = write(model, WriteOptions())
        self.device = _device(task.running.device)
        self.seen, self.held_out = (Feed(self.spec.batch_size, self._arrays) for _ in range(2))
        with keras.device(self.device):
            self._prepare(checkpoint)

    def _prepare(self, checkpoint: Any) -> None:
        """Make the live model and its optimizer."""
        self.model = load(self.source)
        self.trained = trainable_variables(self.model)
        keys = {id(variable): key for key, variable in self.trained.items()}
        self.sums = {key for key in self.trained if trained.is_sum(self.source, key)}
        self.weights = trained.settings(self.source, self.trained, self.spec.optimizer, self.sums)
        variables = [v for v in self.model.trainable_variables if id(v) in keys]
        #: The keys of the variables, in the optimizer's order.
        self.keys = [keys[id(v)] for v in variables]
        self.scaled = self.task.loss_scale(checkpoint.slots)
        self.optimizer = Optimizer(self.spec, self.scaled, self.task.running.group)
        self.optimizer.prepare(variables, [self.weights[key] for key in self.keys])
        self._restore(checkpoint.slots)
        self.step = checkpoint.step
        self.fitted = _Fitted(self.model, self.task, variables)
        with float_type(self.source):  # in which Keras keeps the mean of the loss
            is_alone = self.task.running.group is None  # XLA does not compile what processes exchange
            self.fitted.compile(
                optimizer=self.optimizer, jit_compile=(self.task.running.compile or "auto") if is_alone else False
            )

    def epoch(self, data: Any) -> dict[str, float]:
        _reseed(self.model, data.seed)
        if self.optimizer.plan(data.steps):
            self.fitted.make_train_function(force=True)
        told = [_Steps(self.task.running.on_step, self.fitted)] if self.task.running.on_step is not None else None
        with float_type(self.source), keras.device(self.device), self.seen.of(data) as given:
            steps = data.count if data.is_stream else None
            fit = self.fitted.fit(given, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=told)
        self.step += sum(1 for numbers in data.steps if numbers["is_step"])
        if self.scaled is not None:
            self.step -= int(ops.convert_to_numpy(self.optimizer.skipped))
        return self.fitted.numbers(fit.history["loss"][-1])

    def evaluate(self, data: Any) -> dict[str, float]:
        with float_type(self.source), keras.device(self.device), self.held_out.of(data) as given:
            steps = data.count if data.is_stream else None
            found = self.fitted.evaluate(given, steps=steps, verbose=0, return_dict=True)
        return self.fitted.numbers(found["loss"])

    def _arrays(self, data: Any) -> tuple[Any, list[Any]]:
        """Inputs, and the targets with the weights of rows behind them."""
        inputs = [data.inputs[name] for name in self.source.inputs]
        targets = [*data.targets, *(w for w in data.weights if w is not None)]
        if self.task.running.group is not None:
            taken = len(targets[0])
            targets.append(np.broadcast_to(np.array([data.share, data.rows], np.float64), (taken, 2)))
        return inputs if len(inputs) > 1 else inputs[0], targets

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], int]:
        held: dict[str, dict[str, np.ndarray]] = {}
        for place, key in enumerate(self.keys):
            for slot, variable in self.optimizer.held[place].items():
                held.setdefault(slot, {})[key] = np.array(ops.convert_to_numpy(variable))
        slots = trained.to_checkpoint(self.source, held, self.sums)
        if self.optimizer.means:
            means = zip(self.keys, self.optimizer.means, strict=True)
            copies = {key: np.array(ops.convert_to_numpy(mean)) for key, mean in means}
            slots |= trained.to_checkpoint(self.source, {"ema": copies})
        if self.scaled is not None:
            self.scaled.scale = float(ops.convert_to_numpy(self.optimizer.loss_scale))
            self.scaled.since = int(ops.convert_to_numpy(self.optimizer.since))
            slots |= self.scaled.slots()
        arrays = {key: np.array(array) for key, array in weights(self.model).items()}
        return self.source.initializers(arrays), slots, self.step

    def _restore(self, slots: dict[str, dict[str, np.ndarray]]) -> None:
        """Go on with what a checkpoint remembers."""
        shapes = {key: tuple(self.trained[key].shape) for key in self.keys}
        for slot, key, _, array in trained.restored(self.source, self.spec, self.weights, shapes, slots):
            place = self.keys.index(key)
            held = self.optimizer.means[place] if slot == "ema" else self.optimizer.held[place][slot]
            if array is not None:
                held.assign(array)


class _Steps(keras.callbacks.Callback):
    """Tells of each batch."""

    def __init__(self, on_step: Any, fitted: _Fitted) -> None:
        super().__init__()
        self.on_step, self.fitted = on_step, fitted

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.on_step(batch + 1, float(ops.convert_to_numpy(self.fitted.latest)))


def _device(name: str | None) -> str | None:
    """What Keras calls a device.

    Raises:
        TrainingError: When there is none of that name here.
    """
    if name is None:
        return None
    kind, number = device_number(name)
    found = f"{'gpu' if kind == 'cuda' else kind}:{number}"
    known = [str(device) for device in keras.distribution.list_devices()]
    known = [*known, *([] if any(device.startswith("cpu") for device in known) else ["cpu:0"])]
    if found not in known:
        raise TrainingError(f"Keras has no device '{name}' here; it has {', '.join(known)}")
    return found


def _outputs(model: keras.Model) -> list[Any]:
    """The outputs in the order of the neutral model; Keras lists those of a dict in the order of their keys."""
    keys = traits.output_keys(model.dlbridge_source.model.graph)
    return model.outputs if keys is None else [dict(zip(sorted(keys), model.outputs, strict=True))[key] for key in keys]


class _Fitted(keras.Model):
    """A model with the losses and metrics of a task, as Keras' ``fit`` and ``evaluate`` call them."""

    def __init__(self, model: keras.Model, task: Any, variables: list[Any]) -> None:
        super().__init__(name="training", autocast=False)  # the model inside has types of its own
        self.model, self.task = model, task
        self.own = {id(loss): losses.own(loss) for loss in task.losses}
        self.totals = _Totals(task, [tuple(output.shape) for output in _outputs(model)])
        self._variables_that_train = variables
        #: The loss of the latest batch, where somebody listens.
        self.latest = keras.Variable(0.0, dtype="float64", trainable=False) if task.running.on_step else None

    @property
    def trainable_weights(self) -> list[Any]:
        return list(self._variables_that_train)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.model(inputs, training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        outputs = self.model.dlbridge_source.in_order(y_pred)
        targets, rest = y[: len(self.task.losses)], list(y[len(self.task.losses) :])
        part = None if self.task.running.group is None else rest.pop()[0]
        rows = [
            None if loss.sample_weight is None else ops.cast(rest.pop(0), outputs[0].dtype) for loss in self.task.losses
        ]
        targets = [_target(t, outputs[i]) for t, i in zip(targets, self.task.outputs, strict=True)]
        value = self.task.loss(outputs, targets, rows, functions, lambda loss: self.own[id(loss)])
        for added in self.model.losses:
            value = value + ops.cast(added, value.dtype)
        self.totals.add(outputs, targets, value, part)
        if part is not None:
            value = value * ops.cast(part[0], value.dtype)
        if self.latest is not None:
            self.latest.assign(ops.cast(value, "float64"))
        return value

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        return {"loss": self._loss_tracker.result()}

    def numbers(self, loss: float) -> dict[str, float]:
        """The loss and the metrics of the epoch that has ended."""
        return self.totals.numbers(loss)

    @property
    def metrics(self) -> list[Any]:
        return [self._loss_tracker, self.totals] if self._loss_tracker is not None else []


class _Totals(keras.metrics.Metric):
    """The sums of the metrics over batches, in float64."""

    def __init__(self, task: Any, shapes: list[tuple[Any, ...]]) -> None:
        super().__init__(name="totals", dtype="float64")
        self.task = task
        self.sums = [
            {name: self._zero(f"{place}_{name}", shape) for name, shape in sizes.items()}
            for place, sizes in enumerate(task.sizes(shapes))
        ]
        if task.running.group is not None:
            self.seen = self._zero("loss_and_rows", (2,))

    def _zero(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.add_variable(shape, "zeros", dtype="float64", name=name)

    def add(self, outputs: list[Any], targets: list[Any], loss: Any, part: Any) -> None:
        """Add the numbers of a batch, of which this process may have a part: its share and its rows."""
        if part is not None:
            self.seen.assign_add(ops.stack([ops.cast(loss, "float64") * part[1], part[1]]))
        for held, found in zip(self.sums, self.task.sums(outputs, targets, functions), strict=True):
            for name, total in held.items():
                added = ops.reshape(found[name], total.shape)
                if part is not None:  # of a batch whose rows are all with other processes, nothing counts
                    added = ops.where(part[1] > 0, added, ops.zeros_like(added))
                total.assign_add(added)

    def result(self) -> Any:
        return ops.zeros(())  # Keras asks; the numbers are computed when the epoch has ended

    def numbers(self, loss: float) -> dict[str, float]:
        sums = [{k: ops.convert_to_numpy(v) for k, v in held.items()} for held in self.sums]
        if self.task.running.group is None:
            return self.task.numbers(float(loss), 1, sums)
        return self.task.numbers_of_all(*ops.convert_to_numpy(self.seen), sums)


def _target(target: Any, output: Any) -> Any:
    """Class numbers as they are; else the target in the output's dtype, which ``fit`` changes."""
    is_numbers = "float" in keras.backend.standardize_dtype(target.dtype)
    return ops.cast(target, output.dtype) if is_numbers else target


def _reseed(model: keras.Model, seed: int) -> None:
    """Draw the random numbers of an epoch from its seed, layer by layer."""
    generators = []
    for layer in model._flatten_layers():
        generators += [held for held in vars(layer).values() if isinstance(held, keras.random.SeedGenerator)]
    for place, generator in enumerate({id(g): g for g in generators}.values()):
        states = np.random.SeedSequence([seed, place]).generate_state(2)
        generator.state.assign(ops.convert_to_tensor(states.astype("uint32"), dtype=generator.state.dtype))
