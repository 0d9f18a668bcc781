"""What training returns: the trained model, its history, and a checkpoint to continue from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dlbridge.model import Model
from dlbridge.processing import Processing
from dlbridge.training.spec import TrainingSpec

History = dict[str, list[float]]


@dataclass
class Checkpoint:
    """The state of a training, under the model's own names, so that another framework can continue it.

    Attributes:
        epoch: The number of completed epochs.
        weights: Initializer name -> array.
        slots: Optimizer slot ("momentum", "m", "v") -> initializer name -> array.
        step: The number of steps that the optimizer has made.
        history: The metrics of the completed epochs.
        best: (loss, weights) of the best epoch so far.
        spec: The specification of the training; a training that continues must agree with it.
        processing: What is done with the data before the model gets it, as it was fitted when the training began.
    """

    epoch: int
    weights: dict[str, np.ndarray]
    slots: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    step: int = 0
    history: History = field(default_factory=dict)
    best: tuple[float, dict[str, np.ndarray]] | None = None
    spec: TrainingSpec | None = None
    processing: Processing | None = None


@dataclass
class Result:
    """A trained model.

    Attributes:
        model: With the weights of the last epoch.
        best: With the weights of the epoch with the smallest validation loss (training loss where there is none).
        averaged: With the means of the weights, where the specification keeps them (``ema``).
        history: "loss", "val_loss", "accuracy", "val_accuracy", ... -> a number for each epoch.
        checkpoint: The state of the training, to continue from.
        interrupted: Whether it was stopped (Ctrl-C) before the last epoch.
        diverged: What became infinite or NaN, which ended the training; None if nothing did.
        seconds: How long it took.
    """

    model: Model
    best: Model
    history: History
    checkpoint: Checkpoint
    interrupted: bool = False
    diverged: str | None = None
    averaged: Model | None = None
    seconds: float = 0.0
