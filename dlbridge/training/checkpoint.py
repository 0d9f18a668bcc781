"""Checkpoints on disk: weights and optimizer slots under the model's own names, which every framework can read.

A checkpoint is a folder. Its ``state.json`` has the number of epochs and the history, and names the files of the
weights, of the optimizer's slots and of the best weights. A new checkpoint is written file by file next to the old one;
then ``state.json`` is replaced in one step, and only then are the files deleted that it no longer names. So there is a
complete checkpoint whenever the process is killed, the machine stops or the disk is full.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dlbridge.errors import FileError
from dlbridge.files import replacing
from dlbridge.ops.names import unique
from dlbridge.processing import Processing
from dlbridge.training.result import Checkpoint
from dlbridge.training.spec import TrainingSpec

STATE_FILE = "state.json"
_ENDING = ".safetensors"
#: The files of a checkpoint that names none: older ones had the same files for every epoch.
_UNNAMED = {what: f"{what}{_ENDING}" for what in ("weights", "slots", "best")}


def save_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays as one safetensors file.

    Raises:
        FileError: When they cannot be written, because the disk is full for example.
    """
    with replacing(path) as fresh:
        try:
            save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, fresh)
        except SafetensorError as error:
            raise FileError(f"cannot be written: {error}", where=str(path)) from None


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint into its folder; it replaces the one that is there.

    Raises:
        FileError: When there is no room for it; the one that was there stays complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _state(folder) if (folder / STATE_FILE).exists() else {}
    taken = set(before.get("files", _UNNAMED).values())

    def write(what: str, arrays: Mapping[str, np.ndarray]) -> str:
        name = unique(f"{what}-{checkpoint.epoch}", {n.removesuffix(_ENDING) for n in taken}) + _ENDING
        save_arrays(arrays, folder / name)
        return name

    slots = {f"{slot}/{name}": a for slot, arrays in checkpoint.slots.items() for name, a in arrays.items()}
    files = {"weights": write("weights", checkpoint.weights), "slots": write("slots", slots)}
    state: dict[str, Any] = {"epoch": checkpoint.epoch, "step": checkpoint.step, "history": checkpoint.history}
    if checkpoint.best is not None:
        state["best"], best = checkpoint.best
        if best is checkpoint.weights:
            files["best"] = files["weights"]
        elif state["best"] == before.get("best") and _goes_on(before["history"], checkpoint.history):
            files["best"] = before["files"]["best"]
        else:
            files["best"] = write("best", best)
    if checkpoint.spec is not None:
        state["training"] = checkpoint.spec.model_dump(mode="json")
    if checkpoint.processing is not None:
        state["processing"] = checkpoint.processing.model_dump(mode="json")
    with replacing(folder / STATE_FILE) as fresh:
        fresh.write_text(json.dumps({**state, "files": files}) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        if path.suffix in (_ENDING, ".new") and path.name not in files.values():
            path.unlink()


def _goes_on(before: Mapping[str, list[float]], history: Mapping[str, list[float]]) -> bool:
    """Whether ``history`` continues ``before``: it begins with the same numbers."""
    return all(history.get(name, [])[: len(numbers)] == numbers for name, numbers in before.items())


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        FileError: When there is none, or it is broken.
    """
    if not (folder / STATE_FILE).exists():
        raise FileError("there is no checkpoint to resume from", where=str(folder))
    state = _state(folder)
    try:
        files = {what: folder / name for what, name in state["files"].items()}
        slots: dict[str, dict[str, np.ndarray]] = {}
        for key, array in load_file(files["slots"]).items():
            slot, _, name = key.partition("/")
            slots.setdefault(slot, {})[name] = array
        best = (state["best"], load_file(files["best"])) if "best" in state else None
        spec = TrainingSpec.model_validate(state["training"]) if "training" in state else None
        processing = Processing.model_validate(state["processing"]) if "processing" in state else None
        weights = load_file(files["weights"])
        return Checkpoint(state["epoch"], weights, slots, state["step"], state["history"], best, spec, processing)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise FileError(f"the checkpoint is broken: {error}", where=str(folder)) from None


def _state(folder: Path) -> dict[str, Any]:
    """Read ``state.json``."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        state.setdefault("files", _UNNAMED)
        if any(Path(name).name != name for name in state["files"].values()):
            raise ValueError("it names a file of another folder")
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise FileError(f"the checkpoint is broken: {error}", where=str(folder)) from None
    return state
