"""How a training is run, apart from what it computes: the device, compilation, callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dlbridge.errors import TrainingError
from dlbridge.training.spec import TrainingSpec


class Callback:
    """Is called in a training, after steps and epochs. Derive from it, and override what is of use.

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


#: A loss of the user's own: (output, target) -> a number, of the framework's tensors.
OwnLoss = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Running:
    """How a training is run.

    Attributes:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; the framework's own choice when None.
        compile: Whether the framework compiles the model: ``torch.compile``, XLA in Keras. Flax NNX always does.
        on_step: Called after each batch with (its number from 1, its loss); None if no callback wants it.
        own_loss: The function of a loss of the user's own.
        group: The processes that train together (``dlbridge.training.group``); None if this one trains alone.
    """

    device: str | None = None
    compile: bool = False
    on_step: Callable[[int, float], None] | None = None
    own_loss: OwnLoss | None = None
    group: Any = None


def guarded(own_loss: OwnLoss | None) -> OwnLoss | None:
    """The function of a loss of the user's own, whose mistakes are told as its own."""
    if own_loss is None:
        return None
    name = getattr(own_loss, "__name__", type(own_loss).__name__)

    def computed(output: Any, target: Any) -> Any:
        try:
            value = own_loss(output, target)
        except Exception as error:  # it is the user's code
            raise TrainingError(
                f"the loss of your own, '{name}', fails: {type(error).__name__}: {error}",
                hint="it gets the output and the target as tensors of the framework that trains",
            ) from error
        if not hasattr(value, "shape"):
            raise TrainingError(
                f"the loss of your own, '{name}', returns {value!r}", hint="return a tensor: a number, or one a row"
            )
        return value

    return computed


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Check that callbacks are callbacks.

    Raises:
        TrainingError: When one is something else, such as a function.
    """
    given = callbacks if isinstance(callbacks, Sequence) else [callbacks]
    wrong = [callback for callback in given if not isinstance(callback, Callback)]
    if wrong or given is not callbacks:
        raise TrainingError(
            f"'callbacks' is a list of dlbridge.training.Callback, and has a {type((wrong or given)[0]).__name__}",
            hint="derive a class from Callback; 'progress' takes a function, which is called after epochs",
        )


def listens_to_steps(callbacks: Sequence[Callback]) -> bool:
    """Whether any of them overrides the methods of steps; where none does, they cost nothing."""
    return any(type(callback).on_step is not Callback.on_step for callback in callbacks)


def check_own(spec: TrainingSpec, own_loss: OwnLoss | None) -> None:
    """Check that there is a function for a loss of the user's own, and none for others.

    Raises:
        TrainingError: When there is not.
    """
    count = sum(loss.op == "Own" for loss in spec.losses)
    if count > 1:
        raise TrainingError("one loss of a specification may be a function of your own", hint="add them up in it")
    if count and own_loss is None:
        raise TrainingError(
            "the loss is a function of your own, which is not given",
            hint="say --loss mylosses:focal (own_loss=); it is code of the framework that trains",
        )
    if own_loss is not None and not count:
        raise TrainingError("a loss of your own is given, the specification has another", hint="say loss: {op: Own}")
