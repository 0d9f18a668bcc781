"""Trains a model in any framework with the same result: the specification, the data, the loop, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlbridge import lazy

if TYPE_CHECKING:
    from dlbridge.training.evaluation import evaluate, predict, predict_to_file
    from dlbridge.training.folder import train_to_folder
    from dlbridge.training.history import plot
    from dlbridge.training.loop import train
    from dlbridge.training.result import Result
    from dlbridge.training.running import Callback
    from dlbridge.training.script import emit
    from dlbridge.training.spec import TrainingSpec
    from dlbridge.training.tensorboard import TensorBoard

__all__ = [
    "Callback",
    "Result",
    "TensorBoard",
    "TrainingSpec",
    "emit",
    "evaluate",
    "plot",
    "predict",
    "predict_to_file",
    "train",
    "train_to_folder",
]

__getattr__, __dir__ = lazy.names(
    __name__,
    {
        "Callback": "running",
        "TensorBoard": "tensorboard",
        "Result": "result",
        "TrainingSpec": "spec",
        "emit": "script",
        "evaluate": "evaluation",
        "plot": "history",
        "predict": "evaluation",
        "predict_to_file": "evaluation",
        "train": "loop",
        "train_to_folder": "folder",
    },
)
