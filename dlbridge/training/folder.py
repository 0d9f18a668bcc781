"""Training into a folder, with a progress bar: what the command line does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dlbridge.errors import TrainingError, require
from dlbridge.files import writing
from dlbridge.model import Model
from dlbridge.training import history as histories
from dlbridge.training.checkpoint import load_checkpoint, save_arrays, save_checkpoint
from dlbridge.training.loop import Source, train
from dlbridge.training.result import Result
from dlbridge.training.spec import TrainingSpec


def train_to_folder(
    model: Model,
    data: Source,
    folder: str | os.PathLike[str],
    *,
    framework: str = "pytorch",
    spec: TrainingSpec | None = None,
    resume: bool = False,
    plot: bool = True,
    force: bool = False,
    quiet: bool = False,
) -> Result:
    """Train, with a progress bar, and write the trained model into a folder that ``dlbridge.load`` reads.

    The folder holds the last weights (``model.yaml``, ``weights.safetensors``), the best ones (``best.safetensors``),
    ``history.json``, ``history.png``, and ``checkpoint/`` to go on from.

    Raises:
        FileError: When the folder exists and neither ``force`` nor ``resume`` is set, or there is nothing to resume.
        MissingExtraError: When there is to be a plot and matplotlib is not installed.
    """
    if plot:
        require("matplotlib", "plot")  # before the work is done, not after it
    target = Path(folder)
    before = load_checkpoint(target / "checkpoint") if resume else None
    spec = spec or model.training
    if spec is None:
        raise TrainingError("the model has no training specification", where=model.name)
    with _bar(spec.epochs, framework, quiet) as advance:
        result = train(model, data, framework=framework, spec=spec, checkpoint=before, progress=advance)
    with writing(target, force=force or resume) as fresh:
        result.model.save(fresh)
        save_arrays(result.best.weights, fresh / "best.safetensors")
        histories.save(result.history, fresh / "history.json")
        save_checkpoint(result.checkpoint, fresh / "checkpoint")
        if plot and result.history.get("loss"):
            histories.plot({framework: result.history}, fresh / "history.png")
    return result


@contextmanager
def _bar(epochs: int, framework: str, quiet: bool) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Show a progress bar, or a line an epoch where there is no terminal, and give the function that advances it."""
    console = Console(stderr=True, quiet=quiet)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(f"training in {framework}", total=epochs)

        def advance(epoch: int, metrics: dict[str, float]) -> None:
            numbers = ", ".join(f"{k} {v:.4g}" for k, v in metrics.items())
            bar.update(task, completed=epoch, description=f"training in {framework}: {numbers}")
            if not console.is_terminal:
                console.print(f"epoch {epoch}/{epochs}: {numbers}", soft_wrap=True)

        yield advance
