"""The optimizers of a specification, by its formulas.

Keras' own classes differ: Adam adds epsilon before the bias correction ("epsilon hat"), RMSprop and Adagrad below the
root, and all of them round their hyper-parameters to float32, which shows in float64. Here each step is computed by the
formula of the specification, with numbers in the variable's own dtype. ``OWN`` has the class that printed code names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from dlbridge.frameworks.keras.training import functions


class Optimizer(keras.optimizers.Optimizer):
    """The optimizer of a specification.

    Args:
        spec: The specification.
        scaled: The loss scale to begin with, where the loss is scaled (``dlbridge.training.formulas.mixed.LossScale``).
        group: The processes that train together (``dlbridge.training.group``); None for this one alone.

    What depends on the step alone is computed before an epoch, for all of its batches: ``plan`` hands it over, and each
    batch reads its row.
    """

    def __init__(self, spec: Any, scaled: Any = None, group: Any = None) -> None:
        super().__init__(learning_rate=spec.optimizer.learning_rate, name=spec.optimizer.kind)
        self.spec, self.formula = spec, spec.optimizer
        #: How each variable is trained, and what is remembered of it by slot; by the variable's index.
        self.weights: list[Any] = []
        self.held: list[dict[str, Any]] = []
        self.means: list[Any] = []
        self.sums: list[Any] = []
        self.scaled = scaled
        self.group = group

    def prepare(self, variables: Sequence[Any], weights: Sequence[Any]) -> None:
        """Make the variables of what is remembered.

        Args:
            variables: The model's variables that train.
            weights: How each is trained.
        """
        self.build(variables)
        self.weights = list(weights)
        start = partial(_filled, self.formula.start)
        for variable, weight in zip(variables, weights, strict=True):
            shape = tuple(variable.shape)
            slots = {name: self.formula.slot_shape(name, shape, weight) for name in self.formula.slots_of(weight)}
            self.held.append({name: self._made(size, variable, name, start) for name, size in slots.items()})
        if self.spec.ema is not None:
            self.means = [self._made(tuple(v.shape), v, "ema", "zeros") for v in variables]
            for mean, variable in zip(self.means, variables, strict=True):
                mean.assign(variable)
        if self.spec.accumulate > 1:
            self.sums = [self._made(tuple(v.shape), v, "sum_of_gradients", "zeros") for v in variables]
        more = ("share", "is_step") if self.spec.accumulate > 1 else ()
        self._columns = ["rate", *self.formula.numbers(1), *more]
        self._table: Any = None
        if self.scaled is not None:
            self.loss_scale = self._number(self.scaled.scale, "float64", "loss_scale")
            self.since = self._number(self.scaled.since, "int64", "steps_since")
            self.skipped = self._number(0, "int64", "skipped")

    def _number(self, value: float, dtype: str, name: str) -> Any:
        return self.add_variable((), partial(_filled, value), dtype, name=name)

    def _made(self, shape: tuple[int, ...], variable: Any, name: str, initializer: Any) -> Any:
        return self.add_variable(shape, initializer, variable.dtype, name=f"{variable.path.replace('/', '_')}_{name}")

    def plan(self, steps: Sequence[Mapping[str, float]]) -> bool:
        """Take over the numbers of an epoch's batches, and return whether compiled code must be made anew."""
        table = np.array([[numbers[name] for name in self._columns] for numbers in steps])
        self.iterations.assign(0)
        if self.scaled is not None:
            self.skipped.assign(0)
        is_new = self._table is None or tuple(self._table.shape) != table.shape
        if is_new:
            self._table = keras.Variable(table, dtype="float64", trainable=False, name="steps")
        else:
            self._table.assign(table)
        return is_new

    def _backend_apply_gradients(self, grads: Sequence[Any], trainable_variables: Sequence[Any]) -> None:
        places = [self._get_variable_index(v) for v in trainable_variables]
        if self.group is not None:  # the shares of a batch make the mean of all what one process would have
            grads = [gradient / self.group.size for gradient in self.group.total(grads)]
        if not self.sums:
            self._finite_step(grads, trainable_variables, places)
            return
        row = ops.take(self._table, self.iterations, axis=0)
        numbers = dict(zip(self._columns, ops.unstack(row), strict=True))
        for place, gradient in zip(places, grads, strict=True):
            if self.scaled is None:  # else the loss was multiplied by it
                gradient = gradient * ops.cast(numbers["share"], gradient.dtype)
            self.sums[place].assign_add(gradient)

        def step() -> None:
            self._finite_step([self.sums[i].value for i in places], trainable_variables, places)
            for i in places:
                self.sums[i].assign(ops.zeros_like(self.sums[i]))

        ops.cond(numbers["is_step"] > 0, step, lambda: None)

    def _finite_step(self, grads: Sequence[Any], variables: Sequence[Any], places: Sequence[int]) -> None:
        """One step of all weights; none where the loss is scaled and a gradient is not finite."""
        if self.scaled is None:
            self._step(grads, variables, places, ops.take(self._table, self.iterations, axis=0))
            return
        grads = [g / ops.cast(self.loss_scale.value, g.dtype) for g in grads]
        is_finite = ops.all(ops.stack([ops.all(ops.isfinite(g)) for g in grads]))
        made = self.iterations.value - ops.cast(self.skipped.value * self.spec.accumulate, self.iterations.dtype)
        row = ops.take(self._table, made, axis=0)
        ops.cond(is_finite, lambda: self._step(grads, variables, places, row), lambda: None)
        scale, since = self.scaled.spec.after(self.loss_scale.value, self.since.value, is_finite, functions)
        self.loss_scale.assign(scale)
        self.since.assign(since)
        self.skipped.assign_add(ops.cast(ops.logical_not(is_finite), "int64"))

    def scale_loss(self, loss: Any) -> Any:
        if self.scaled is None:
            return loss
        factor = self.loss_scale.value
        if self.sums:
            factor = factor * self._table[self.iterations.value, self._columns.index("share")]
        return loss * ops.cast(factor, loss.dtype)

    def _step(self, grads: Sequence[Any], variables: Sequence[Any], places: Sequence[int], row: Any) -> None:
        """One step of all weights."""
        grads = [ops.cast(g, v.dtype) for g, v in zip(grads, variables, strict=True)]
        if self.spec.clip is not None:
            grads = self.spec.clip.clipped(grads, functions, [self.weights[place].count for place in places])
        rows = {dtype: ops.unstack(ops.cast(row, dtype)) for dtype in {v.dtype for v in variables}}
        by_type = {dtype: dict(zip(self._columns, numbers, strict=True)) for dtype, numbers in rows.items()}
        for place, gradient, variable in zip(places, grads, variables, strict=True):
            held = {name: slot.value for name, slot in self.held[place].items()}
            n, weight = by_type[variable.dtype], self.weights[place]
            value, kept = self.formula.step(gradient, variable.value, held, n, weight, functions)
            for name, new in kept.items():
                self.held[place][name].assign(new)
            if variable.constraint is not None:  # here, so that the mean below is of the weights as they are
                value = variable.constraint(value)
            variable.assign(value)
            if self.means:
                mean = self.means[place]
                mean.assign(self.spec.ema * mean.value + (1 - self.spec.ema) * value)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        variables = list(trainable_variables or self._trainable_variables)
        # the gradient of a table that is looked up is a few of its rows: the formulas are of all
        pairs = [(tf.convert_to_tensor(g), v) for g, v in zip(grads, variables, strict=True) if g is not None]
        self._backend_apply_gradients([g for g, _ in pairs], [v for _, v in pairs])
        self._iterations.assign_add(1)


def _filled(number: float, shape: tuple[int, ...], dtype: str) -> Any:
    """An initializer; Keras' own rounds its number to float32."""
    return ops.convert_to_tensor(np.full(shape, number), dtype=dtype)


@dataclass(frozen=True)
class Own:
    """The class of Keras' that printed code names.

    Attributes:
        name: The class.
        arguments: Its argument -> the specification's name.
    """

    name: str
    arguments: Mapping[str, str] = field(default_factory=dict)


_BETAS = {"beta_1": "beta_1", "beta_2": "beta_2", "epsilon": "epsilon"}
#: The specification's name of an optimizer -> Keras' class. RAdam is missing there, and its Lamb scales vectors too.
OWN = {
    "sgd": Own("SGD", {"momentum": "momentum", "nesterov": "nesterov"}),
    "adam": Own("Adam", _BETAS | {"amsgrad": "amsgrad"}),
    "adamw": Own("AdamW", _BETAS | {"amsgrad": "amsgrad", "weight_decay": "weight_decay"}),
    "nadam": Own("Nadam", _BETAS),
    "adamax": Own("Adamax", _BETAS),
    "adagrad": Own("Adagrad", {"initial_accumulator_value": "initial_sum", "epsilon": "epsilon"}),
    "adadelta": Own("Adadelta", {"rho": "rho", "epsilon": "epsilon"}),
    "rmsprop": Own("RMSprop", {"rho": "rho", "momentum": "momentum", "epsilon": "epsilon", "centered": "centered"}),
    "lion": Own("Lion", {"beta_1": "beta_1", "beta_2": "beta_2"}),
}


def own_class(spec: Any) -> Own | None:
    """The class of Keras' for the optimizer of a specification; None where it lacks a setting that is asked for."""
    own = OWN.get(spec.kind)
    if own is None or (spec.weight_decay and spec.decay == "coupled"):
        return None
    known = {"kind", "learning_rate", "weight_decay", "decay", "no_decay", "groups", *own.arguments.values()}
    others = {name: field.default for name, field in type(spec).model_fields.items() if name not in known}
    return own if all(getattr(spec, name) == usual for name, usual in others.items()) else None
