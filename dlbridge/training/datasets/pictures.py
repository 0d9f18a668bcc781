"""Images on disk, and datasets of Hugging Face on disk, as rows that are read when they are taken."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlbridge.errors import FileError, TrainingError, require
from dlbridge.runtime.images import IMAGE_SUFFIXES, decoded
from dlbridge.training.datasets.rows import Arrays, Rows, stacked
from dlbridge.training.datasets.tables import from_column


def is_image_folder(path: Path) -> bool:
    """Whether a folder has folders, and no files of another kind of data."""
    return path.is_dir() and not is_saved_dataset(path) and any(entry.is_dir() for entry in path.iterdir())


class ImageRows(Rows):
    """The images of a folder that has one folder for each class: sorted by class, then by name.

    Args:
        folder: The folder.
        image: What the images are called: the model's input.
        label: What the names of the classes are called: the target.
        channels: How many channels they are read with.

    Raises:
        FileError: When there are no images.
    """

    is_sorted = True

    def __init__(self, folder: Path, image: str, label: str, channels: int) -> None:
        require("PIL", "data")
        self._image, self._label, self._channels = image, label, channels
        self.names = (image, label)
        self._paths: list[Path] = []
        classes: list[str] = []
        for part in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
            found = sorted(path for path in part.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
            self._paths += found
            classes += [part.name] * len(found)
        if not self._paths:
            raise FileError(
                "there are no images in the folders of this folder",
                where=str(folder),
                hint=f"one folder for each class, with {', '.join(IMAGE_SUFFIXES)} files",
            )
        self._classes = np.array(classes)

    def __len__(self) -> int:
        return len(self._paths)

    def take(self, rows: np.ndarray) -> Arrays:
        images = [self._read(self._paths[row]) for row in rows]
        return {self._image: stacked(images), self._label: self._classes[rows]}

    def column(self, name: str) -> np.ndarray:
        return self._classes if name == self._label else super().column(name)

    def _read(self, path: Path) -> np.ndarray:
        return decoded(path, self._channels, str(path))


# --- datasets of Hugging Face -----------------------------------------------------------------------------------------

_STATE, _INFO, _SEVERAL = "state.json", "dataset_info.json", "dataset_dict.json"


def is_saved_dataset(path: Path) -> bool:
    """Whether ``datasets.Dataset.save_to_disk`` wrote a folder, or several datasets into it."""
    return (path / _SEVERAL).is_file() or ((path / _STATE).is_file() and (path / _INFO).is_file())


class SavedRows(Rows):
    """The rows of a dataset that ``datasets.Dataset.save_to_disk`` wrote: files of Arrow, which stay on the disk.

    Names of classes, and which columns are images, are read from the dataset's description of its columns.

    Raises:
        FileError: When it is broken, or holds several datasets.
    """

    def __init__(self, folder: Path, channels: int) -> None:
        require("pyarrow", "data")
        if (folder / _SEVERAL).is_file():
            splits = json.loads((folder / _SEVERAL).read_text(encoding="utf-8")).get("splits", [])
            raise FileError(
                "it holds several datasets", where=str(folder), hint=f"give one: {', '.join(str(s) for s in splits)}"
            )
        self._channels, self._folder = channels, folder
        state, info = (_json(folder / name) for name in (_STATE, _INFO))
        if state.get("_indices_files"):
            raise FileError(
                "its rows are chosen by indices, which are not read",
                where=str(folder),
                hint="flatten_indices() and save it anew",
            )
        self._table = _tables(folder, state)
        self.names = tuple(self._table.column_names)
        features = info.get("features") or {}
        kinds = {name: kind for name, kind in features.items() if isinstance(kind, Mapping)}
        self._images = {name for name, kind in kinds.items() if kind.get("_type") == "Image"} & set(self.names)
        classes = {name: kind.get("names") for name, kind in kinds.items() if kind.get("_type") == "ClassLabel"}
        self.labels = {name: tuple(str(text) for text in texts) for name, texts in classes.items() if texts}
        self.size = self._table.nbytes

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def take(self, rows: np.ndarray) -> Arrays:
        part = self._table.take(rows)
        return {name: self._column(part.column(name), name) for name in self.names}

    def column(self, name: str) -> np.ndarray:
        return self._column(self._table.column(name), name)

    def _column(self, column: Any, name: str) -> np.ndarray:
        if name not in self._images:
            return from_column(column)
        return stacked([self._decoded(cell, name) for cell in column.to_pylist()])

    def _decoded(self, cell: Any, name: str) -> np.ndarray:
        content = cell.get("bytes") if isinstance(cell, Mapping) else None
        if content is None:
            raise TrainingError("an image of the dataset is not within it", where=f"{self._folder}:{name}")
        return decoded(io.BytesIO(content), self._channels, f"{self._folder}:{name}")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"cannot be read: {error}", where=str(path)) from None
    if not isinstance(found, dict):
        raise FileError("it says nothing of a dataset", where=str(path))
    return found


def _tables(folder: Path, state: Mapping[str, Any]) -> Any:
    """The files of a dataset as one table, in the memory of the file system."""
    import pyarrow

    try:
        names = [str(file["filename"]) for file in state["_data_files"]]
        if any(Path(name).name != name for name in names):
            raise ValueError("it names a file of another folder")
        parts = [pyarrow.ipc.open_stream(pyarrow.memory_map(str(folder / name))).read_all() for name in names]
        return pyarrow.concat_tables(parts)
    except (KeyError, TypeError, ValueError, OSError, pyarrow.ArrowException) as error:
        raise FileError(f"the dataset is broken: {error}", where=str(folder)) from None
