"""Trains in PyTorch, by a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from dlbridge.frameworks.pytorch import WriteOptions
from dlbridge.frameworks.pytorch.regularizing import Regularizing
from dlbridge.frameworks.pytorch.runner import load, to_array, to_tensor, weights
from dlbridge.frameworks.pytorch.writer import write
from dlbridge.model import Model
from dlbridge.source.regularized import of_weights
from dlbridge.source.weights import Weight, to_initializers

#: PyTorch's name of an optimizer's state -> the neutral one.
SLOTS = {"momentum_buffer": "momentum", "exp_avg": "m", "exp_avg_sq": "v"}
#: Probabilities are kept this far from 0 and 1 before their logarithm is taken (as Keras does).
PROBABILITY_MARGIN = 1e-7


class Trainer:
    """A live module with its loss and optimizer. See ``dlbridge.frameworks.Trainer``."""

    def __init__(self, model: Model, spec: Any, *, from_logits: bool, checkpoint: Any) -> None:
        self.spec = spec
        self.source = write(model, WriteOptions())
        self.module = load(self.source)
        self.loss = loss(spec.loss, from_logits)
        self.from_logits = from_logits
        self.parameters = {k: p for k, p in self.module.named_parameters() if k in self.source.weights}
        self.optimizer = optimizer(spec.optimizer, list(self.parameters.values()))
        self.regularized = {
            k: (self.parameters[k], Regularizing(r))
            for k, r in of_weights(self.source.model.graph, self.source.weights).items()
            if k in self.parameters
        }
        self.step = checkpoint.step
        self._restore(checkpoint.slots)
        torch.manual_seed(spec.seed)

    def epoch(self, data: Any) -> dict[str, float]:
        self.module.train()
        totals = _Totals(self.spec, self.from_logits)
        for inputs, target in data.batches():
            self.optimizer.zero_grad()
            output = self._forward(inputs)
            value = self._loss(output, target)
            value.backward()
            self.optimizer.step()
            with torch.no_grad():
                for parameter, regularizing in self.regularized.values():
                    regularizing.limit(parameter)
            self.step += 1
            totals.add(value.detach(), output.detach(), target)
        self.module.eval()
        return totals.means()

    def evaluate(self, data: Any) -> dict[str, float]:
        totals = _Totals(self.spec, self.from_logits)
        with torch.inference_mode():
            for inputs, target in data.batches():
                output = self._forward(inputs)
                totals.add(self._loss(output, target), output, target)
        return totals.means()

    def _loss(self, output: torch.Tensor, target: np.ndarray) -> torch.Tensor:
        """The loss, with what is added to it for weights."""
        value = self.loss(output, self._target(target, output))
        for parameter, regularizing in self.regularized.values():
            value = value + regularizing.penalty(parameter)
        return value

    def _forward(self, inputs: dict[str, np.ndarray]) -> torch.Tensor:
        return self.module(*(to_tensor(inputs[name]) for name in self.source.inputs))

    def _target(self, target: np.ndarray, output: torch.Tensor) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(target))
        return tensor.long() if is_class_numbers(self.spec.loss.op, target, output) else tensor.to(output.dtype)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], int]:
        arrays = {k: a.copy() for k, a in weights(self.module).items()}
        known = self.source.model.weights
        slots: dict[str, dict[str, np.ndarray]] = {}
        for theirs, name in SLOTS.items():
            held = {
                k: to_array(self.optimizer.state[p][theirs]).copy()
                for k, p in self.parameters.items()
                if self.optimizer.state[p].get(theirs) is not None
            }
            if held:
                chosen = {k: self.source.weights[k] for k in held}
                slots[name] = to_initializers(chosen, held, {n: np.zeros_like(known[n]) for n in _named(chosen)})
        return self.source.initializers(arrays), slots, self.step

    def _restore(self, slots: dict[str, dict[str, np.ndarray]]) -> None:
        """Give the optimizer the state that a checkpoint holds."""
        for theirs, name in SLOTS.items():
            for key, parameter in self.parameters.items():
                weight = self.source.weights[key]
                if name in slots and all(v.initializer in slots[name] for v in weight.views):
                    state = self.optimizer.state[parameter]
                    state[theirs] = to_tensor(weight.read(slots[name])).to(parameter.dtype)
                    state["step"] = torch.tensor(float(self.step))


def _named(chosen: dict[str, Weight]) -> set[str]:
    return {view.initializer for weight in chosen.values() for view in weight.views}


def is_class_numbers(op: str, target: np.ndarray, output: Any) -> bool:
    """Whether the target of a cross-entropy is class numbers, and not a row of probabilities for each."""
    if op == "SparseCategoricalCrossentropy":
        return True
    return op == "SoftmaxCrossEntropyLoss" and target.ndim == output.ndim - 1


class _Totals:
    """Means of the loss and the metrics over batches, each batch weighing as many as it has rows."""

    def __init__(self, spec: Any, from_logits: bool) -> None:
        threshold = 0.0 if from_logits else 0.5
        self.metrics = {name: METRICS[name] for name in spec.metrics}
        if "accuracy" in self.metrics and spec.loss.op == "BinaryCrossentropy":
            self.metrics["accuracy"] = lambda output, target: binary_accuracy(output, target, threshold)
        elif "accuracy" in self.metrics and spec.loss.op == "SoftmaxCrossEntropyLoss":
            self.metrics["accuracy"] = lambda output, target: accuracy(output, target, 1)
        self.sums: dict[str, float] = {}
        self.rows = 0

    def add(self, value: torch.Tensor, output: torch.Tensor, target: np.ndarray) -> None:
        rows = len(target)
        numbers = {"loss": float(value)}
        wanted = torch.from_numpy(np.ascontiguousarray(target))
        for name, metric in self.metrics.items():
            numbers[name] = float(metric(output, wanted))
        for name, number in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + number * rows
        self.rows += rows

    def means(self) -> dict[str, float]:
        return {name: total / self.rows for name, total in self.sums.items()}


def accuracy(output: torch.Tensor, target: torch.Tensor, axis: int = -1) -> torch.Tensor:
    """Share of places whose largest output is that of the class."""
    classes = target.argmax(axis) if target.ndim == output.ndim else target
    return (output.argmax(axis) == classes).double().mean()


def binary_accuracy(output: torch.Tensor, target: torch.Tensor, threshold: float) -> torch.Tensor:
    """Share of numbers that are on the right side."""
    return ((output > threshold) == (target.reshape(output.shape) > 0.5)).double().mean()


METRICS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "accuracy": accuracy,
    "mean_absolute_error": lambda output, target: (output - target.reshape(output.shape)).abs().mean(),
    "mean_squared_error": lambda output, target: (output - target.reshape(output.shape)).square().mean(),
}


def loss(spec: Any, from_logits: bool) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The loss of a specification: (output, target) -> its mean."""
    match spec.op:
        case "SoftmaxCrossEntropyLoss":
            return F.cross_entropy
        case "SparseCategoricalCrossentropy" | "CategoricalCrossentropy":
            return _cross_entropy if from_logits else _cross_entropy_of_probabilities
        case "BinaryCrossentropy":
            return _binary_from_logits if from_logits else _binary
        case "MeanSquaredError":
            return lambda output, target: F.mse_loss(output, target.reshape(output.shape))
        case "MeanAbsoluteError":
            return lambda output, target: F.l1_loss(output, target.reshape(output.shape))
        case "Huber":
            return lambda output, target: F.huber_loss(output, target.reshape(output.shape), delta=spec.delta)
    raise AssertionError(spec.op)


def _cross_entropy(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(output.flatten(0, -2), target.flatten(0, -1 if target.ndim < output.ndim else -2))


def _cross_entropy_of_probabilities(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    output = output / output.sum(-1, keepdim=True)
    logarithm = output.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN).log()
    if target.ndim < output.ndim:
        return -logarithm.gather(-1, target.unsqueeze(-1)).mean()
    return -(target * logarithm).sum(-1).mean()


def _binary_from_logits(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(output, target.reshape(output.shape))


def _binary(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy(
        output.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN), target.reshape(output.shape)
    )


def optimizer(spec: Any, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of a specification. PyTorch's classes compute the formulas of ``dlbridge.training.spec``."""
    trained = [p for p in parameters if p.requires_grad]
    match spec.kind:
        case "sgd":
            return torch.optim.SGD(trained, spec.learning_rate, momentum=spec.momentum, nesterov=spec.nesterov)
        case "adam":
            return torch.optim.Adam(trained, spec.learning_rate, (spec.beta_1, spec.beta_2), spec.epsilon)
        case "adamw":
            betas = (spec.beta_1, spec.beta_2)
            return torch.optim.AdamW(trained, spec.learning_rate, betas, spec.epsilon, weight_decay=spec.weight_decay)
    raise AssertionError(spec.kind)
