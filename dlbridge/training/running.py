"""How a training is run, beside what it computes: the device, compilation, and who is told of its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


class Callback:
    """Is told of a training. Derive from it, and override what is of use.

    Example:
        >>> class Shown(Callback):
        ...     def on_epoch(self, checkpoint, metrics):
        ...         print(checkpoint.epoch, metrics["loss"])
    """

    def on_step(self, epoch: int, batch: int, batches: int, loss: float) -> None:
        """Called after a batch.

        Args:
            epoch: The number of the epoch, from 1.
            batch: The number of the batch, from 1.
            batches: How many batches the epoch has.
            loss: The loss of the batch.
        """

    def on_epoch(self, checkpoint: Any, metrics: dict[str, float]) -> bool | None:
        """Called after an epoch; the training ends if it returns True.

        Args:
            checkpoint: The state of the training: ``.epoch``, ``.weights``, ``.history``.
            metrics: The numbers of the epoch.
        """
        return None


@dataclass(frozen=True)
class Running:
    """How a training is run.

    Attributes:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; the framework's own choice when None.
        compile: Whether the framework compiles the model: ``torch.compile``, XLA in Keras. Flax NNX always does.
        on_step: Called after each batch with (its number from 1, its loss); None where nobody listens.
    """

    device: str | None = None
    compile: bool = False
    on_step: Callable[[int, float], None] | None = None


def listens_to_steps(callbacks: Sequence[Callback]) -> bool:
    """Whether any of them is told of steps: what that costs is saved where none is."""
    return any(type(callback).on_step is not Callback.on_step for callback in callbacks)
