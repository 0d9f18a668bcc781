"""What a model's author adds to the loss for a weight, and what a weight is kept to: traits of initializers.

Both are defined here by formula, once; each framework's trainer computes them. An element belongs to one group of a
limit, whatever the layout that a framework holds the weight in, so a limit over axes is one over groups.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from dlbridge.errors import TrainingError
from dlbridge.ops import traits


@dataclass(frozen=True)
class Penalty:
    """``l1 sum |w| + l2 sum w^2``, added to the loss. Source: ``keras.regularizers.L1L2``.

    Attributes:
        l1, l2: The factors.
        unknown: The regularizer's class, where it is another formula, which nothing here computes.
    """

    l1: float = 0.0
    l2: float = 0.0
    unknown: str = ""


@dataclass(frozen=True)
class Limit:
    """What a weight is made to fulfil after each step of the optimizer. Source: ``keras.constraints``.

    * ``non_negative``: what is below 0 becomes 0.
    * ``norm``: with n the root of the sum of squares of a group, each element is multiplied by
      ``(rate clip(n, low, high) + (1 - rate) n) / (n + epsilon)``.

    Attributes:
        kind: Which of these; ``unknown`` where it is another formula, which nothing here computes.
        low, high, rate: Of a norm.
        axes: The axes of a group in an array of the shape ``shape``, which ``steps`` make the initializer of.
        name: The constraint's class, for messages.
    """

    kind: str
    low: float = 0.0
    high: float = 1.0
    rate: float = 1.0
    axes: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    steps: tuple[tuple, ...] = ()
    name: str = ""


#: Keras' epsilon, below a norm.
EPSILON = 1e-7

_PENALTY, _LIMIT = "dlbridge.penalty", "dlbridge.limit"
#: JSON of what is added to the loss of the model that was read and is not in the graph.
_LOSSES = "dlbridge.losses"


def set_penalty(value: ir.Value, penalty: Penalty) -> None:
    value.metadata_props[_PENALTY] = json.dumps(asdict(penalty))


def penalty(value: ir.Value) -> Penalty | None:
    text = value.metadata_props.get(_PENALTY)
    return None if text is None else Penalty(**json.loads(text))


def set_limit(value: ir.Value, limit: Limit) -> None:
    value.metadata_props[_LIMIT] = json.dumps(asdict(limit))


def limit(value: ir.Value) -> Limit | None:
    text = value.metadata_props.get(_LIMIT)
    if text is None:
        return None
    read = json.loads(text)
    tuples = {name: tuple(read[name]) for name in ("axes", "shape")}
    return Limit(**{**read, **tuples, "steps": _tuples(read["steps"])})


def _tuples(item: Any) -> Any:
    return tuple(_tuples(i) for i in item) if isinstance(item, list) else item


def set_losses(graph: ir.Graph, losses: list[str]) -> None:
    if losses:
        graph.metadata_props[_LOSSES] = json.dumps(losses)


def losses(graph: ir.Graph) -> list[str]:
    """What is added to the loss of the model that was read, in words; no trainer here adds it."""
    return json.loads(graph.metadata_props.get(_LOSSES, "[]"))


def check(graph: ir.Graph) -> None:
    """Refuse a model whose training has what no trainer here has.

    Raises:
        TrainingError: It names all of it.
    """
    unknown = list(losses(graph))
    for name, value in graph.initializers.items():
        added, kept = (penalty(value), limit(value)) if traits.is_trained(value) else (None, None)
        if added is not None and added.unknown:
            unknown.append(f"{name}: the regularizer {added.unknown}")
        if kept is not None and kept.kind == "unknown":
            unknown.append(f"{name}: the constraint {kept.name}")
    if unknown:
        raise TrainingError(
            "its training has what is not computed here:\n" + "\n".join(f"  {line}" for line in unknown),
            where=graph.name,
            hint="take it off the model before it is read, or train the model where it comes from",
        )
