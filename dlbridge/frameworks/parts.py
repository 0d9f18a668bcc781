"""What a framework hands out: what it trains by, its trainer, its run in float64, its rules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Coverage", "Exact", "Section", "Trainer", "Trains"]


@dataclass(frozen=True)
class Trains:
    """What a framework can train by: words of ``dlbridge.training.TrainingSpec``.

    Attributes:
        losses: The losses (``"MeanSquaredError"``); None for every one that there is.
        optimizers: The optimizers (``"sgd"``); None for every one that there is.
        precisions: The half types of mixed precision (``"float16"``); None for every one that there is.
    """

    losses: Collection[str] | None = None
    optimizers: Collection[str] | None = None
    precisions: Collection[str] | None = ()


class Exact(Protocol):
    """Runs a model with every float in float64. A framework that has it for its live models (``Framework.exact``), and
    an original that has it (``model.original.exact()``), are compared more closely: what rounding is owed is measured,
    and a failure names the node where numbers first depart. One that also has ``in_own_types(arrays, seen)``, which
    runs the model as it is and gives ``seen`` each array on the way, has the node named where only a type departs, too.

    Attributes:
        eps: That of the coarsest float type in which the model computes by itself.
    """

    eps: float

    def __call__(
        self, arrays: Mapping[str, np.ndarray], *, noise: float = 0.0, seen: list[np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Arrays by output name.

        Args:
            arrays: Arrays by input name, in the model's own types.
            noise: Move each result on the way by a random part of at most this.
            seen: Gets each array of numbers or truth values that is computed on the way, in order.
        """
        ...


class Trainer(Protocol):
    """A model in training. ``dlbridge.training`` runs the epochs."""

    def epoch(self, data: Any) -> dict[str, float]:
        """Train on the batches of a ``Dataset``, in their order; the mean loss and metrics over them."""
        ...

    def evaluate(self, data: Any) -> dict[str, float]:
        """The mean loss and metrics over a ``Dataset`` in inference mode."""
        ...

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], int]:
        """Copies of the weights by initializer, of the optimizer's slots by slot and initializer, and its steps."""
        ...


@dataclass(frozen=True)
class Section:
    """A table of ``docs/coverage.md``: what a framework has, and whether it is read.

    Attributes:
        title: The heading.
        note: What the words of the table mean, in Markdown.
        column: What stands in a row: an "op", a "layer".
        rows: (name, whether it is read, the tests that use its rule).
    """

    title: str
    note: str
    column: str
    rows: list[tuple[str, str, list[str]]]


@dataclass(frozen=True)
class Coverage:
    """The rules of a framework, for ``docs/coverage.md``.

    Attributes:
        writes: The rules that write, by domain and op.
        reads: Name of a table -> the rules that read, by what they read.
        sections: Makes the page's sections on what is read, of ``{table: {rule: tests that used it}}``.
    """

    writes: dict[Any, Any]
    reads: dict[str, dict[Any, Any]] = field(default_factory=dict)
    sections: Callable[[Mapping[str, Mapping[str, list[str]]]], list[Section]] = lambda used: []
