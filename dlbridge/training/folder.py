"""Trains into a folder, with a progress bar: what the command line does."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dlbridge import frameworks
from dlbridge.errors import FileError, TrainingError
from dlbridge.files import check_free, writing
from dlbridge.model import Model
from dlbridge.training import history as histories
from dlbridge.training.checkpoint import STATE_FILE, load_checkpoint, save_arrays, save_checkpoint
from dlbridge.training.data import Source
from dlbridge.training.loop import DIVERGED_HINT, train
from dlbridge.training.preparation import specification
from dlbridge.training.result import Result
from dlbridge.training.running import Callback
from dlbridge.training.spec import TrainingSpec

CHECKPOINT = "checkpoint"
#: The checkpoint of a training that will replace what is in the folder when it is finished.
NEW_CHECKPOINT = "checkpoint.new"


def train_to_folder(
    model: Model,
    data: Source,
    folder: str | os.PathLike[str],
    *,
    framework: str | None = None,
    spec: TrainingSpec | Mapping[str, Any] | None = None,
    resume: bool | str | os.PathLike[str] = False,
    plot: bool = True,
    force: bool = False,
    quiet: bool = False,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> Result:
    """Train, with a progress bar, and write the trained model into a folder that ``dlbridge.load`` reads.

    The folder has the last weights (``model.yaml``, ``weights.safetensors``), the best ones (``best.safetensors``),
    their means (``averaged.safetensors``, with ``ema``), ``history.json`` and its picture, ``processing.yaml`` where
    data is prepared, and ``checkpoint/`` to continue from. The checkpoint is written after every epoch; the rest when
    training ends or is stopped by Ctrl-C or SIGTERM, in one step. A training that is killed leaves only its checkpoint,
    and ``resume`` continues from it; given a folder, from that of another training, which stays as it is. What
    ``force`` replaces stays until the new training is finished; until then its checkpoint is in ``checkpoint.new/``.

    Of processes that train together (``torchrun``), the first alone shows its progress and writes.

    Args:
        model: The model; it is not changed.
        data: As :func:`dlbridge.training.train` takes it, and ``framework``, ``spec`` and ``callbacks`` too.
        folder: The folder.
        resume: Whether to go on from the checkpoint in the folder, or the folder of another training to go on from.
        plot: Whether to draw the history.
        force: Whether to replace what is in the folder.
        quiet: Whether to show no progress.
        options: What else :func:`dlbridge.training.train` takes: ``validation``, ``device``, ``compile``, ...

    Raises:
        FileError: When the folder exists and neither ``force`` nor ``resume`` is set, when there is nothing to resume,
            or when the disk is full; then the checkpoint of the epoch before stays complete.
        TrainingError: When training diverges; the epochs before are written first.
    """
    spec = specification(model, spec)
    framework = framework or frameworks.default_trainer()
    target = Path(folder)
    other = None if isinstance(resume, bool) else Path(resume)
    group = frameworks.get(framework).group()
    is_first = group is None or group.rank == 0  # of processes that train together, one writes
    place = _place(target, resume is True, force) if is_first or resume is True else target / CHECKPOINT
    before = load_checkpoint(_checkpoint_of(other) if other is not None else place) if resume is not False else None
    save = partial(save_checkpoint, folder=place) if is_first else None
    with _stopping_when_terminated():
        with _bar(spec.epochs, framework, quiet or not is_first) as (advance, by_step):
            result = train(
                model,
                data,
                framework=framework,
                spec=spec,
                checkpoint=before,
                save=save,
                progress=advance,
                callbacks=[*by_step, *callbacks] if is_first else [],
                warn=False,  # it is an error below
                **options,
            )
        is_finished = not result.interrupted and result.diverged is None
        has_more = result.checkpoint.epoch > (before.epoch if before is not None else 0)
        if is_first and (is_finished or (has_more and place.name == CHECKPOINT)):
            _write(result, target, framework, plot)
    if result.diverged is not None:
        raise TrainingError(
            f"{result.diverged}; the {result.checkpoint.epoch} epochs before are kept",
            where=str(target),
            hint=DIVERGED_HINT,
        )
    return result


def _write(result: Result, target: Path, framework: str, plot: bool) -> None:
    with writing(target, force=True) as fresh:
        result.model.save(fresh)
        save_arrays(result.best.weights, fresh / "best.safetensors")
        if result.averaged is not None:
            save_arrays(result.averaged.weights, fresh / "averaged.safetensors")
        histories.save(result.history, fresh / "history.json")
        save_checkpoint(result.checkpoint, fresh / CHECKPOINT)
        if plot and result.history.get("loss"):
            picture = "history.png" if histories.has_matplotlib() else "history.svg"
            histories.plot({framework: result.history}, fresh / picture)


def _checkpoint_of(folder: Path) -> Path:
    """The checkpoint in the folder of a training, or the folder itself."""
    found = [folder / name for name in (NEW_CHECKPOINT, CHECKPOINT) if (folder / name / STATE_FILE).exists()]
    return found[0] if found else folder


def _place(target: Path, resume: bool, force: bool) -> Path:
    """Choose the folder of the checkpoint while training runs."""
    new = target / NEW_CHECKPOINT
    if resume:
        return _checkpoint_of(target) if (new / STATE_FILE).exists() else target / CHECKPOINT
    if (target / CHECKPOINT / STATE_FILE).exists() and not force:
        raise FileError("there is a training already", where=str(target), hint="go on with --resume, or pass --force")
    check_free(target, force=force)
    if target.is_symlink() or target.is_file():
        raise FileError("it is not a folder, so no training can be written into it", where=str(target))
    if not target.exists():
        return target / CHECKPOINT
    if new.exists():
        shutil.rmtree(new)
    return new


@contextmanager
def _stopping_when_terminated() -> Iterator[None]:
    """Let SIGTERM, with which schedulers end a process, stop a training as Ctrl-C does."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _bar(
    epochs: int, framework: str, quiet: bool
) -> Iterator[tuple[Callable[[int, dict[str, float]], None], list[Callback]]]:
    """Show a line for each epoch, and below them on a terminal a bar of the epochs and one of the steps; yield the
    function to call after an epoch, and the callbacks of steps."""
    console = Console(stderr=True, quiet=quiet)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(f"training in {framework}", total=epochs)
        by_step = [_StepBar(bar)] if not bar.disable else []

        def advance(epoch: int, metrics: dict[str, float]) -> None:
            numbers = ", ".join(f"{k} {v:.4g}" for k, v in metrics.items())
            bar.update(task, completed=epoch)
            console.print(f"epoch {epoch}/{epochs}: {numbers}", soft_wrap=True, highlight=False)

        yield advance, list(by_step)


class _StepBar(Callback):
    """A bar of the steps of an epoch."""

    def __init__(self, bar: Progress) -> None:
        self._bar, self._task = bar, bar.add_task("epoch 1", total=None)

    def on_step(self, epoch: int, batch: int, batches: int, loss: float) -> None:
        text = f"epoch {epoch}: loss {loss:.4g}"
        self._bar.update(self._task, total=batches, completed=batch, description=text)
