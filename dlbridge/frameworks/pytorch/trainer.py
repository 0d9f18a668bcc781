"""Trains in PyTorch, by a plain loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from dlbridge.errors import TrainingError
from dlbridge.frameworks.pytorch import WriteOptions, compat
from dlbridge.frameworks.pytorch.arrays import to_array, to_tensor
from dlbridge.frameworks.pytorch.runner import load, weights
from dlbridge.frameworks.pytorch.training import functions as ops
from dlbridge.frameworks.pytorch.training import losses, optimizers
from dlbridge.frameworks.pytorch.writer import write
from dlbridge.model import Model
from dlbridge.source.training import trained
from dlbridge.source.training.regularized import of_weights

Tensors = Sequence[torch.Tensor]


class Trainer:
    """A live module with its losses and optimizer. See ``dlbridge.frameworks.Trainer``."""

    def __init__(self, model: Model, task: Any, *, checkpoint: Any) -> None:
        self.task, self.spec = task, task.spec
        self.source = write(model, WriteOptions())
        self.device = _device(task.running.device)
        self.module = load(self.source).to(self.device)
        self.called = torch.compile(self.module) if task.running.compile else self.module
        if task.running.group is not None:
            self.called = DistributedDataParallel(self.called, find_unused_parameters=True)
        named = {k: p for k, p in self.module.named_parameters() if k in self.source.weights}
        self.parameters = {k: p for k, p in named.items() if p.requires_grad}
        self.weights = trained.settings(self.source, self.parameters, self.spec.optimizer)
        self.optimizer = optimizers.optimizer(self.spec.optimizer, self.parameters, self.weights)
        self.regularized = {
            k: (self.parameters[k], r)
            for k, r in of_weights(self.source.model.graph, self.source.weights).items()
            if k in self.parameters
        }
        self.own = {id(loss): losses.own(loss) for loss in task.losses}
        self.step = checkpoint.step
        self.scaled = task.loss_scale(checkpoint.slots)
        self.ema: dict[str, torch.Tensor] = {}
        self._restore(checkpoint.slots)

    def epoch(self, data: Any) -> dict[str, float]:
        torch.manual_seed(data.seed)
        self.module.train()
        totals, steps = self.task.totals(), data.steps
        if self.scaled is not None:
            self.scaled.skipped = 0
        for place, (batch, n) in enumerate(zip(data.batches(self._placed), steps, strict=True), 1):
            outputs, targets = self._forward(batch), batch.targets
            value = self._loss(outputs, targets, batch)
            factor = n["share"] * batch.share if self.scaled is None else n["share"] * batch.share * self.scaled.scale
            (value if factor == 1 else value * factor).backward()
            if n["is_step"] and (self.scaled is None or self._is_step(self.scaled)):
                skipped = 0 if self.scaled is None else self.scaled.skipped * self.spec.accumulate
                self._step(steps[place - 1 - skipped])
            totals.add(value.item(), self._sums(outputs, targets), batch.rows)
            if self.task.running.on_step is not None:
                self.task.running.on_step(place, value.item())
        self.module.eval()
        return totals.numbers()

    def evaluate(self, data: Any) -> dict[str, float]:
        totals = self.task.totals()
        with torch.inference_mode():
            for batch in data.batches(self._placed):
                outputs, targets = self._forward(batch), batch.targets
                value = self._loss(outputs, targets, batch)
                totals.add(value.item(), self._sums(outputs, targets), batch.rows)
        return totals.numbers()

    def _is_step(self, scaled: Any) -> bool:
        """Divide the gradients by the loss scale, and leave out the step if they are not finite."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        compat.foreach_mul(gradients, 1 / scaled.scale)
        is_finite = bool(torch.stack([g.isfinite().all() for g in gradients]).all())
        if not is_finite:
            self._forget_gradients()
        return scaled.is_step(is_finite)

    def _forget_gradients(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None

    def _step(self, n: dict[str, float]) -> None:
        """One step of the optimizer, with what is made of the gradients before it and of the weights after it."""
        if self.spec.clip is not None:
            optimizers.clip(self.spec.clip, self.parameters.values())
        self.optimizer.step(n)
        self._forget_gradients()
        with torch.no_grad():
            for parameter, regularized in self.regularized.values():
                parameter.copy_(regularized.limited(parameter, ops))
            for key, mean in self.ema.items():
                mean.mul_(self.spec.ema).add_(self.parameters[key], alpha=1 - self.spec.ema)
        self.step += 1

    def _loss(self, outputs: Tensors, targets: Tensors, batch: Any) -> torch.Tensor:
        """The losses, with what is added to them for weights."""
        rows = [None if w is None else w.to(outputs[0].dtype) for w in batch.weights]
        value = self.task.loss(outputs, targets, rows, ops, lambda loss: self.own[id(loss)])
        for parameter, regularized in self.regularized.values():
            value = value + regularized.added(parameter, ops)
        return value

    @torch.no_grad()
    def _sums(self, outputs: Tensors, targets: Tensors) -> list[dict[str, Any]]:
        """The sums of the metrics of a batch, as arrays and numbers."""
        found = self.task.sums(outputs, targets, ops)
        return [{k: to_array(v) if isinstance(v, torch.Tensor) else v for k, v in sums.items()} for sums in found]

    def _placed(self, array: np.ndarray) -> torch.Tensor:
        return to_tensor(array).to(self.device)

    def _forward(self, batch: Any) -> Tensors:
        return tuple(self.source.in_order(self.called(*(batch.inputs[name] for name in self.source.inputs))))

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], int]:
        arrays = {k: a.copy() for k, a in weights(self.module).items()}
        held = self.optimizer.slots() | ({"ema": self.ema} if self.ema else {})
        copies = {slot: {k: to_array(t).copy() for k, t in kept.items()} for slot, kept in held.items() if kept}
        slots = trained.to_checkpoint(self.source, copies)
        if self.scaled is not None:
            slots |= self.scaled.slots()
        return self.source.initializers(arrays), slots, self.step

    def _restore(self, slots: dict[str, dict[str, np.ndarray]]) -> None:
        """Go on with what a checkpoint remembers."""
        shapes = {key: tuple(parameter.shape) for key, parameter in self.parameters.items()}
        found: dict[str, dict[str, np.ndarray]] = {}
        for slot, key, _, array in trained.restored(self.source, self.spec, self.weights, shapes, slots):
            if slot == "ema":
                self.ema[key] = self.parameters[key].detach().clone() if array is None else self._placed(array)
            elif array is not None:
                found.setdefault(slot, {})[key] = array
        self.optimizer.restore(found, self.step)


def _device(name: str | None) -> torch.device:
    """The device of that name.

    Raises:
        TrainingError: When PyTorch has none of that name here.
    """
    try:
        device = torch.device(name or "cpu")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise TrainingError(
            f"PyTorch has no device '{name}' here: {str(error).splitlines()[0].split('. ')[0]}"
        ) from None
    return device
