"""Optimizers by the formulas of ``dlbridge.training.spec``.

Keras' own classes differ: Adam adds epsilon before the bias correction ("epsilon hat"), and all of them round their
hyper-parameters to float32, which shows in float64. Here every number is given in the variable's own dtype.

A variable that stands for the sum of two, which have the same gradients, moves by twice as much (``twice``, by the
variable's index).
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import ops


def _number(value: Any, variable: Any) -> Any:
    return ops.convert_to_tensor(value, dtype=variable.dtype)


class SGD(keras.optimizers.SGD):
    """``v = momentum v + g``; ``w -= lr v``, with Nesterov ``w -= lr (g + momentum v)``."""

    slots: ClassVar = {"momentum": "momentums"}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec.learning_rate, momentum=spec.momentum, nesterov=spec.nesterov)
        self.spec = spec
        self.twice: set[int] = set()

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        gradient = ops.cast(gradient, variable.dtype)
        if self.spec.momentum:
            momentum = _number(self.spec.momentum, variable)
            velocity = momentum * self.momentums[index] + gradient
            self.assign(self.momentums[index], velocity)
            gradient = gradient + momentum * velocity if self.spec.nesterov else velocity
        rate = self.spec.learning_rate * (2 if index in self.twice else 1)
        self.assign_sub(variable, _number(rate, variable) * gradient)


class Adam(keras.optimizers.Adam):
    """Kingma & Ba, 2015, algorithm 1; for AdamW with the decoupled weight decay of Loshchilov & Hutter, 2019."""

    slots: ClassVar = {"m": "_momentums", "v": "_velocities"}

    def __init__(self, spec: Any) -> None:
        super().__init__(spec.learning_rate, spec.beta_1, spec.beta_2, spec.epsilon)
        self.spec = spec
        self.twice: set[int] = set()

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        spec, index = self.spec, self._get_variable_index(variable)
        gradient = ops.cast(gradient, variable.dtype)
        rate, beta_1, beta_2 = (_number(n, variable) for n in (spec.learning_rate, spec.beta_1, spec.beta_2))
        if spec.kind == "adamw":
            self.assign_sub(variable, rate * _number(spec.weight_decay, variable) * variable)
        m, v = self._momentums[index], self._velocities[index]
        self.assign(m, beta_1 * m + (1 - beta_1) * gradient)
        self.assign(v, beta_2 * v + (1 - beta_2) * ops.square(gradient))
        step = ops.cast(self.iterations + 1, variable.dtype)
        first = m / (1 - ops.power(beta_1, step))
        first = first * (2 if index in self.twice else 1)
        second = ops.sqrt(v / (1 - ops.power(beta_2, step)))
        self.assign_sub(variable, rate * first / (second + _number(spec.epsilon, variable)))


def optimizer(spec: Any) -> SGD | Adam:
    """The optimizer of a specification."""
    return SGD(spec) if spec.kind == "sgd" else Adam(spec)
