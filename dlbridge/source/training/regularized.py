"""Regularizers and constraints of the weights of a written model: what training does to them beside the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.errors import TrainingError
from dlbridge.ops import traits
from dlbridge.ops.regularization import EPSILON, Limit, Penalty, limit, losses, penalty
from dlbridge.source.names import identifier
from dlbridge.source.weights import View, Weight


@dataclass(frozen=True)
class Regularized:
    """What training does to one weight of a framework, beside the step of the optimizer.

    Attributes:
        penalty: What is added to the loss.
        limit: What the weight is made to fulfil after a step.
        groups: The number of the group of each element, in the framework's layout; None where there are none.
    """

    penalty: Penalty | None
    limit: Limit | None
    groups: np.ndarray | None

    def added(self, w: Any, ops: Any) -> Any:
        """What is added to the loss for the weight; ``ops`` are the framework's functions of training."""
        penalty = self.penalty or Penalty()
        return penalty.l1 * ops.sum(ops.abs(w)) + penalty.l2 * ops.sum(w * w)

    def limited(self, w: Any, ops: Any) -> Any:
        """The weight, made to fulfil its limit."""
        kept = self.limit
        if kept is None:
            return w
        if self.groups is None:
            return ops.maximum(w, ops.zeros_like(w))
        norms = ops.group_norms(w, self.groups)
        wanted = kept.rate * ops.minimum(ops.maximum(norms, kept.low), kept.high) + (1 - kept.rate) * norms
        return w * (wanted / (norms + EPSILON))


def of_weights(graph: ir.Graph, weights: Mapping[str, Weight]) -> dict[str, Regularized]:
    """Framework key -> what training does to the weight, of those that train.

    Raises:
        TrainingError: When nothing here computes it.
    """
    found = {}
    for key, weight in weights.items():
        if not weight.views:
            continue
        first = graph.initializers[weight.views[0].initializer]
        added, kept = penalty(first), limit(first)
        if not traits.is_trained(first) or (added is None and kept is None):
            continue
        groups = _groups(first, weight, kept) if kept is not None and kept.kind == "norm" else None
        found[key] = Regularized(added, kept, groups)
    return found


def comment(graph: ir.Graph) -> list[str]:
    """What a printed loop says of a model that ``dlbridge.train`` does more for; no lines for others."""
    values = [v for v in graph.initializers.values() if traits.is_trained(v)]
    names = [str(v.name) for v in values if penalty(v) is not None or limit(v) is not None]
    names += [text.partition(":")[0] for text in losses(graph)]
    if not names:
        return []
    shown = ", ".join(identifier(name.replace(".", "_")) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return ["    # Not here: the regularizers, constraints and losses that the original has for", f"    # {shown}."]


def _groups(value: ir.Value, weight: Weight, kept: Limit) -> np.ndarray:
    groups = _numbers(kept)
    if len(weight.views) != 1 or list(groups.shape) != list(value.shape or ()):
        raise TrainingError(f"the constraint {kept.name} of a weight that is held in another form", where=value.name)
    return np.asarray(weight.views[0].read(groups), order="C")


def _numbers(kept: Limit) -> np.ndarray:
    """The number of the group of each element, in the initializer's layout."""
    sizes = [1 if axis in kept.axes else size for axis, size in enumerate(kept.shape)]
    numbers = np.arange(int(np.prod(sizes))).reshape(sizes)
    return View("", kept.steps).read(np.broadcast_to(numbers, kept.shape))
