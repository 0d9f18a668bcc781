"""Makes a copy of a model for training, whose outputs are what the losses read (logits in place of probabilities)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import onnx_ir as ir

from dlbridge.errors import TrainingError
from dlbridge.model import Model
from dlbridge.ops import regularization, traits
from dlbridge.ops.keys import op_key
from dlbridge.passes.mixed import mix_precision
from dlbridge.passes.unused import needed
from dlbridge.training.formulas.loss_part import LossPart
from dlbridge.training.formulas.metrics import Metric
from dlbridge.training.spec import TrainingSpec
from dlbridge.training.task import Task


def specification(model: Model, spec: TrainingSpec | Mapping[str, Any] | None) -> TrainingSpec:
    """The specification that is given, or its settings; else the model's own.

    Raises:
        TrainingError: When there is neither.
        DescriptionError: When a setting is wrong.
    """
    found = model.training if spec is None else spec
    if found is None:
        raise TrainingError("the model has no training specification", where=model.name)
    return found if isinstance(found, TrainingSpec) else of_settings(found)


def of_settings(settings: Mapping[str, Any]) -> TrainingSpec:
    """The specification of these settings, which are those of a ``training`` section.

    Raises:
        DescriptionError: When one of them is wrong; it is named.
        TrainingError: When they are no settings.
    """
    if not isinstance(settings, Mapping):
        raise TrainingError(
            f"a specification is a TrainingSpec or its settings by name, not a {type(settings).__name__}",
            hint="dlbridge train --spec FILE reads one from a file",
        )
    from dlbridge.description import document, schema

    found: TrainingSpec = schema.check(document.Document(dict(settings)), (), TrainingSpec)
    return found


def prepared(model: Model, spec: TrainingSpec) -> tuple[Model, Task]:
    """The model to train, and what to train it by.

    Its outputs are those that the losses read, without a final Softmax or Sigmoid: the cross-entropy of logits is exact
    where that of probabilities overflows, and the same number elsewhere.
    """
    copy = model.clone()
    copy.training = None  # its outputs are no longer those that the specification names
    graph = copy.graph
    before = {value.name: value for value in graph.outputs}
    read: list[ir.Value] = []
    losses, places, endings = [], [], []
    for loss in spec.losses:
        value = before[loss.of] if loss.of is not None else graph.outputs[0]
        logits = _logits(value, loss)
        losses.append(loss if logits is None else loss.model_copy(update={"from_logits": True}))
        endings.append(None if logits is None else loss.ending)
        value = value if logits is None else logits
        if value not in read:
            read.append(value)
        places.append(read.index(value))
    graph.outputs[:] = read
    for value in before.values():
        node = value.producer()
        if node is not None and value not in read and not any(output.uses() for output in node.outputs):
            graph.remove(node, safe=True)
    _freeze_unread(graph)
    _add_penalties(graph, spec)
    _mix(copy, spec)
    metrics = tuple((metric, _loss_of(metric, spec, before)) for metric in spec.metrics)
    for metric, place in metrics:
        shape = read[places[place]].shape
        if shape is not None:
            metric.check([size if isinstance(size, int) else None for size in shape], losses[place])
    return copy, Task(spec, tuple(losses), tuple(places), tuple(endings), metrics)


def _logits(value: ir.Value, loss: LossPart) -> ir.Value | None:
    """What a loss of probabilities may read instead of its output; None where there are no logits."""
    node = value.producer()
    if loss.ending is None or loss.reads_logits or node is None:
        return None
    if op_key(node) != loss.ending or not _is_last_axis(node):
        return None
    return node.inputs[0]


def _loss_of(metric: Metric, spec: TrainingSpec, outputs: Collection[str | None]) -> int:
    """The place of the loss that a metric of an output takes its target from."""
    place = spec.place_of(metric)
    if place is None or (metric.of is not None and metric.of not in outputs):
        raise TrainingError(
            f"a metric is of '{metric.of}', which no loss reads", hint="a metric has the target of a loss"
        )
    return place


def _freeze_unread(graph: ir.Graph) -> None:
    """Freeze the weights on which no loss depends: by their decay and penalties some frameworks would train them."""
    _, values = needed(graph.outputs)
    for value in graph.initializers.values():
        if traits.is_trained(value) and value not in values:
            traits.set_kind(value, "frozen")


def _add_penalties(graph: ir.Graph, spec: TrainingSpec) -> None:
    """Give the weights what the specification adds to the loss for them, beside what the model's author adds."""
    if not spec.l1 and not spec.l2:
        return
    for name, value in graph.initializers.items():
        if traits.is_trained(value) and not any(fnmatchcase(name, pattern) for pattern in spec.optimizer.no_decay):
            own = regularization.penalty(value) or regularization.Penalty()
            regularization.set_penalty(value, replace(own, l1=own.l1 + spec.l1, l2=own.l2 + spec.l2))


def _mix(model: Model, spec: TrainingSpec) -> None:
    """Let the model compute in the half type of the specification."""
    if spec.precision is None:
        return
    values = (*model.inputs, *model.graph.initializers.values(), *(v for n in model.graph for v in n.outputs))
    others = [v for v in values if v.dtype is not None and v.dtype.is_floating_point() and v.dtype.itemsize != 4]
    if others:
        raise TrainingError(
            f"mixed precision is of float32 models; '{others[0].name}' is {others[0].dtype}", where=model.name
        )
    if not mix_precision(model.ir, spec.precision.kind):
        raise TrainingError(
            f"nothing in this model is computed in {spec.precision.kind}",
            where=model.name,
            hint="leave out 'precision': it is of products of matrices, convolutions and attention",
        )


def _is_last_axis(node: ir.Node) -> bool:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    return axis == -1 or (shape is not None and axis == len(shape) - 1)
