"""Checkpoints on disk: weights and optimizer slots under names that no framework owns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dlbridge.errors import FileError
from dlbridge.training.result import Checkpoint


def save_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays as one safetensors file."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint: ``state.json``, and safetensors of weights and optimizer slots under neutral names."""
    folder.mkdir()
    save_arrays(checkpoint.weights, folder / "weights.safetensors")
    slots = {f"{slot}/{name}": a for slot, arrays in checkpoint.slots.items() for name, a in arrays.items()}
    save_arrays(slots, folder / "slots.safetensors")
    state: dict[str, Any] = {"epoch": checkpoint.epoch, "step": checkpoint.step, "history": checkpoint.history}
    if checkpoint.best is not None:
        state["best"], best = checkpoint.best
        save_arrays(best, folder / "best.safetensors")
    (folder / "state.json").write_text(json.dumps(state) + "\n", encoding="utf-8")


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        FileError: When there is none, or it is broken.
    """
    if not (folder / "state.json").exists():
        raise FileError("there is no checkpoint to resume from", where=str(folder))
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        slots: dict[str, dict[str, np.ndarray]] = {}
        for key, array in load_file(folder / "slots.safetensors").items():
            slot, _, name = key.partition("/")
            slots.setdefault(slot, {})[name] = array
        best = (state["best"], load_file(folder / "best.safetensors")) if "best" in state else None
        weights = load_file(folder / "weights.safetensors")
        return Checkpoint(state["epoch"], weights, slots, state["step"], state["history"], best)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise FileError(f"the checkpoint is broken: {error}", where=str(folder)) from None
