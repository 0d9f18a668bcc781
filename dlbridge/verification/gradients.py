"""Gradients and steps of training, compared between the frameworks that train.

A framework shows its gradients by what plain gradient descent of rate 1 subtracts from the weights in one step, in
float64, so its trainer is all that is needed. Each float input gets a weight of zeros added to it, whose gradient is
that of the input, summed over the rows. One framework is compared with the other, and the first one with differences of
the loss itself, computed by the reference evaluator, along a random direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError
from dlbridge.model import Model
from dlbridge.ops import in_training, traits
from dlbridge.ops.evaluator import Evaluator
from dlbridge.ops.keys import is_op, op_key
from dlbridge.passes import precision
from dlbridge.passes.matching import Match
from dlbridge.training import Callback, train
from dlbridge.training.spec import TrainingSpec
from dlbridge.verification.inputs.arrays import batch_dim, random_inputs
from dlbridge.verification.inputs.sizes import fitting_sizes
from dlbridge.verification.measure import Arrays
from dlbridge.verification.report import TrainingCheck

#: The relative error that differences of the loss may have: kinks disturb them.
_DIFFERENCE_BOUND = 1e-3
#: Rows of a batch, and the step of the differences.
_ROWS, _STEP = 4, 1e-5
#: A gradient that is smaller than this part of the largest is rounding: that of a bias before a normalization. Its
#: error is relative to that part; the weight is not compared after steps of Adam, which divides by a gradient's size.
_NO_GRADIENT = 1e-9
#: What begins the names of the weights that are added to inputs.
_ADDED = "gradient_of."


def check_training(
    model: Model, *, steps: int = 0, seed: int = 0
) -> tuple[list[TrainingCheck], dict[str, list[float]]]:
    """Compare gradients, and weights after some steps, in all frameworks that train.

    Args:
        model: The model.
        steps: The number of steps; with 0, only gradients are compared.
        seed: The seed of the inputs and targets.

    Returns:
        The comparisons, and the loss of each step in each framework.

    Raises:
        DlbridgeError: When the model has no float output with a row for each row of its inputs.
    """
    names = [name for name in frameworks.trainers() if frameworks.get(name).is_installed]
    subject = _subject(model, seed)
    found: dict[str, tuple[Arrays, Arrays]] = {}
    curves: dict[str, list[float]] = {}
    checks: list[TrainingCheck] = []
    for name in names:
        try:
            gradients, told = subject.gradients(name), _Losses()
            found[name] = (gradients, subject.trained(name, steps, told) if steps else {})
            curves |= {name: told.losses} if steps else {}
        except DlbridgeError as error:
            checks.append(TrainingCheck(name, "", trouble=error.message))
    if not found:
        return checks, curves
    first, *others = found
    gradients, weights = found[first]
    for name in others:
        check = TrainingCheck(name, first)
        least = _NO_GRADIENT * max((_largest(g) for g in gradients.values()), default=0.0)
        check.gradients = {n: _off(found[name][0][n], g, least) for n, g in gradients.items()}
        moved = {n for n, g in gradients.items() if _largest(g) > least}
        check.weights = {n: _off(found[name][1][n], w) for n, w in weights.items() if n in moved}
        checks.append(check)
    if not any(map(_differs_from_its_slope, subject.model.graph.all_nodes())):
        checks.append(subject.difference(first, gradients))
    return checks, curves


def _differs_from_its_slope(node: ir.Node) -> bool:
    """Whether a node has other gradients than the slope of the loss at inference."""
    return in_training.acts_otherwise(node) or op_key(node) == "StopGradient"


class _Losses(Callback):
    """The loss of each step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_step(self, epoch: int, batch: int, batches: int, loss: float) -> None:
        self.losses.append(loss)


def _off(found: np.ndarray, wanted: np.ndarray, least: float = 0.0) -> float:
    """The largest difference, relative to the largest number that is wanted; to ``least`` where all are smaller."""
    return _largest(found - wanted) / (max(_largest(wanted), least) or 1.0)


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array).max(initial=0.0))


@dataclass
class _Subject:
    """What is trained: the model in float64 with a weight added to each float input, inputs and a target.

    Attributes:
        model: The model.
        output: The name of the output that the loss reads.
        inputs: The inputs of one batch.
        target: The target of one batch.
        seed: The seed of further batches.
    """

    model: Model
    output: str
    inputs: Arrays
    target: np.ndarray
    seed: int

    def gradients(self, framework: str) -> Arrays:
        """The gradients of the mean squared error in a framework, by weight; those of inputs by ``input NAME``."""
        spec = self._spec({"kind": "sgd", "learning_rate": 1.0})
        after = train(self.model, {**self.inputs, "target": self.target}, framework=framework, spec=spec).model.weights
        before = self.model.weights
        return {_shown(v.name or ""): before[v.name or ""] - after[v.name or ""] for v in self.model.parameters}

    def trained(self, framework: str, steps: int, told: Callback) -> Arrays:
        """The weights after some steps of Adam on other batches."""
        batches = [random_inputs(self.model, self._sizes(), seed=self.seed + step) for step in range(steps)]
        data = {name: np.concatenate([batch[name] for batch in batches]) for name in self.inputs}
        generator = np.random.default_rng(self.seed)
        data["target"] = generator.standard_normal((steps * len(self.target), *self.target.shape[1:]))
        spec = self._spec({"kind": "adam", "learning_rate": 1e-3})
        after = train(self.model, data, framework=framework, spec=spec, callbacks=[told]).model.weights
        return {_shown(v.name or ""): after[v.name or ""] for v in self.model.parameters}

    def _spec(self, optimizer: dict[str, Any]) -> TrainingSpec:
        loss = {"op": "MeanSquaredError", "of": self.output, "target": "target"}
        return TrainingSpec.model_validate(
            {"loss": loss, "optimizer": optimizer, "epochs": 1, "batch_size": len(self.target), "shuffle": False}
        )

    def _sizes(self) -> dict[str, int]:
        name = batch_dim(self.model)
        return {name: len(self.target)} if name else {}

    def difference(self, framework: str, gradients: Arrays) -> TrainingCheck:
        """The slope of the loss along a random direction, from two losses, beside that of the gradients."""
        generator = np.random.default_rng(self.seed)
        slope, moved = 0.0, {}
        for value in self.model.parameters:
            name = value.name or ""
            direction = generator.standard_normal(self.model.weights[name].shape)
            direction *= max(1.0, float(np.abs(self.model.weights[name]).max(initial=0.0)))
            slope += float((gradients[_shown(name)] * direction).sum())
            moved[name] = direction
        losses = [self._loss(moved, side * _STEP) for side in (1.0, -1.0)]
        measured = (losses[0] - losses[1]) / (2 * _STEP)
        off = abs(measured - slope) / max(abs(measured), abs(slope), 1e-12)
        return TrainingCheck(framework, "differences of the loss", {"all weights": off}, bound=_DIFFERENCE_BOUND)

    def _loss(self, directions: Arrays, step: float) -> float:
        copy = self.model.clone()
        copy.set_weights({name: self.model.weights[name] + step * d for name, d in directions.items()})
        output = Evaluator(copy.ir)(self.inputs)[self.output]
        return float(((output - self.target) ** 2).mean())


def _shown(name: str) -> str:
    return f"input {name.removeprefix(_ADDED)}" if name.startswith(_ADDED) else name


def _subject(model: Model, seed: int) -> _Subject:
    batch = batch_dim(model)
    sizes = fitting_sizes(model, {batch: _ROWS} if batch else {})
    subject = precision.convert(model, "float64")
    subject.training = None
    for node in list(subject.graph.all_nodes()):
        _without_chance(node)
    _add_to_inputs(subject, sizes)
    inputs = random_inputs(subject, sizes, seed=seed)
    results = Evaluator(subject.ir)(inputs)
    rows = {len(array) for array in inputs.values() if array.ndim}
    fitting = [n for n, a in results.items() if a.dtype == np.float64 and a.ndim and {len(a)} == rows]
    if not fitting:
        raise DlbridgeError(
            "gradients cannot be compared: no float output has a row for each row of the inputs", where=model.name
        )
    target = np.random.default_rng(seed).standard_normal(results[fitting[0]].shape)
    return _Subject(subject, fitting[0], inputs, target, seed)


def _without_chance(node: ir.Node) -> None:
    """Let a layer that drops at random keep everything: its random numbers are each framework's own."""
    ratio = node.inputs[1] if is_op(node, "Dropout") and len(node.inputs) > 1 else None
    if ratio is not None and ratio.const_value is not None:
        ratio.const_value = ir.Tensor(np.zeros_like(ratio.const_value.numpy()), name=ratio.name)
    node.metadata_props.pop(traits.DROPOUT, None)
    for name in ("p", "ratio", "rate"):
        if Match(node).get(name) is not None and node.domain == "dlbridge":
            node.attributes[name] = ir.AttrFloat32(name, 0.0)


def _add_to_inputs(model: Model, sizes: dict[str, int]) -> None:
    """Add a weight of zeros to each float input."""
    for value in model.inputs:
        if value.dtype != ir.DataType.DOUBLE or value.shape is None or not len(value.shape):
            continue
        rest = [s if isinstance(s, int) else sizes.get(s.value or "", 1) for s in value.shape[1:]]
        weight = ir.Value(name=_ADDED + (value.name or ""), type=ir.TensorType(ir.DataType.DOUBLE))
        weight.shape = ir.Shape([1, *rest])
        weight.const_value = ir.Tensor(np.zeros([1, *rest]), name=weight.name)
        traits.set_kind(weight, "parameter")
        uses: Sequence[Any] = list(value.uses())
        model.graph.initializers[weight.name or ""] = weight
        node = ir.node("Add", [value, weight], name=f"moved_{value.name}")
        output = node.outputs[0]
        output.name, output.dtype, output.shape = f"moved_{value.name}", value.dtype, value.shape
        for use in uses:
            use.node.replace_input_with(use.idx, output)
        model.graph.insert_before(model.graph[0], node)
