"""What training gives back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dlbridge.model import Model
from dlbridge.training.spec import TrainingSpec

History = dict[str, list[float]]


@dataclass
class Checkpoint:
    """Where training stands, under names that no framework owns: what one has begun another goes on with.

    Attributes:
        epoch: How many epochs are done.
        weights: Initializer name -> array.
        slots: Optimizer slot ("momentum", "m", "v") -> initializer name -> array.
        step: How many steps the optimizer has made.
        history: As far as it goes.
        best: (value that is minimised, weights) of the best epoch so far.
        spec: The specification that was trained by, which tells what may go on from here.
    """

    epoch: int
    weights: dict[str, np.ndarray]
    slots: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    step: int = 0
    history: History = field(default_factory=dict)
    best: tuple[float, dict[str, np.ndarray]] | None = None
    spec: TrainingSpec | None = None


@dataclass
class Result:
    """A trained model.

    Attributes:
        model: With the weights of the last epoch.
        best: With the weights of the epoch with the smallest validation loss (training loss where there is none).
        history: "loss", "val_loss", "accuracy", "val_accuracy", ... -> a number for each epoch.
        checkpoint: Where training stands, to go on from.
        interrupted: Whether it was stopped (Ctrl-C) before the last epoch.
        diverged: Where a number became infinite or NaN, so that training ended after the epoch before; else None.
        seconds: How long it took.
    """

    model: Model
    best: Model
    history: History
    checkpoint: Checkpoint
    interrupted: bool = False
    diverged: str | None = None
    seconds: float = 0.0
