"""Trains on Ray Train, which starts the processes, connects them, and restarts all of them when one dies."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig

from dlbridge import frameworks
from dlbridge.errors import TrainingError
from dlbridge.ray_cluster import connected
from dlbridge.training.checkpoint import STATE_FILE
from dlbridge.training.folder import CHECKPOINT, NEW_CHECKPOINT

#: How often all processes are started again from the last checkpoint.
_MOST_RESTARTS = 3


def run(
    work: Callable[[bool], None], target: str | os.PathLike[str], framework: str, workers: int, on_gpus: bool
) -> None:
    """Train in several processes on Ray: on the cluster that ``RAY_ADDRESS`` names, or on this machine.

    Files, of the model, of the data and of the training, must be under the same paths on all machines.

    Args:
        work: Trains into ``target``, in a process of the group; its argument says whether to go on from the checkpoint
            that is there. It is pickled.
        target: The folder that is trained into.
        framework: What trains.
        workers: The number of processes.
        on_gpus: Whether each gets a GPU.

    Raises:
        TrainingError: When the framework trains in one process alone, or the training fails in all processes.
    """
    module, _, name = frameworks.get(framework).ray_trainer.partition(":")
    target = Path(target).absolute()
    storage = target.parent / f".{target.name}.ray"
    before = _checkpoints(target)
    try:
        with connected():
            trainer = getattr(importlib.import_module(module), name)(
                _work,
                train_loop_config={"work": work, "target": str(target), "before": before, "folder": os.getcwd()},
                scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpus),
                run_config=RunConfig(
                    name="training",
                    storage_path=str(storage),
                    failure_config=FailureConfig(max_failures=_MOST_RESTARTS),
                ),
            )
            trainer.fit()
    except Exception as error:  # Ray's own have no base class of their own
        raise TrainingError(_cause(error), where=str(target)) from error
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def _work(config: dict[str, Any]) -> None:
    """What each process does."""
    os.chdir(config["folder"])
    is_again = _checkpoints(Path(config["target"])) != config["before"]
    config["work"](is_again)


def _checkpoints(target: Path) -> Mapping[str, int]:
    """The modification times of the checkpoints in a folder; one that has changed was written by this training."""
    files = [target / name / STATE_FILE for name in (CHECKPOINT, NEW_CHECKPOINT)]
    return {str(file): file.stat().st_mtime_ns for file in files if file.exists()}


def _cause(error: BaseException) -> str:
    """The error of the first process that failed: the last line of Ray's report of it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
