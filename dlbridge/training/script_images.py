"""The images of a script: where they are, how they become an input, and how they are changed in training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlbridge.model import Model
from dlbridge.processing import Image, Processing
from dlbridge.training.datasets.preparing import Preparation
from dlbridge.training.spec import TrainingSpec


@dataclass(frozen=True)
class Images:
    """How a script makes images to the input of a model.

    Attributes:
        input: The name of the input.
        is_folder: Whether they are files in one folder for each class; else they are an array of the data.
        is_prepared: Whether they are bytes (height, width, channels), from which the input is made.
        channels_axis: The axis of the channels in the input: 1 or 3.
        channels: The number of channels.
        size: (height, width) of the input.
        is_resized: Whether there are images of other sizes.
        mode: How they are resized: "linear", "cubic".
        scale: What bytes are multiplied by.
        mean: What is subtracted after that, for each channel or for all.
        std: What is divided by after that.
        changes: How they are changed in training (``dlbridge.training.datasets.prepare``).
        largest: What white is, when they are changed.
    """

    input: str
    is_folder: bool
    is_prepared: bool
    channels_axis: int
    channels: int
    size: tuple[int, int]
    is_resized: bool
    mode: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    changes: tuple[Any, ...]
    largest: float

    @property
    def is_normalized(self) -> bool:
        return any(number != 0 for number in self.mean) or any(number != 1 for number in self.std)


def unsaid(model: Model, spec: TrainingSpec) -> Iterator[str]:
    """Yield what the images of a training need and a script cannot express."""
    own = model.processing.inputs if model.processing is not None else {}
    prepared: dict[str, Any] = {**own, **spec.prepare}
    images = {name: how for name, how in prepared.items() if how.kind == "image"}
    named = {*images, *spec.augment}
    if named and len(model.inputs) > 1:
        yield "images beside other inputs"
    for name, how in images.items():
        if how.fit == "cover":
            yield f"'fit: cover' of '{name}' (a scale of its own for each image, with antialiasing)"
        if how.mode == "nearest":
            yield f"'mode: nearest' of '{name}' (frameworks choose other pixels)"
    for name in spec.augment:
        if name in prepared and name not in images:
            yield f"augmentation of '{name}' before its columns are standardized"
    for value in model.inputs:
        if value.name in named and (value.dtype is None or value.dtype.name != "FLOAT"):
            yield f"images of {value.dtype}"


def described(
    model: Model, spec: TrainingSpec, processing: Processing, raw: np.ndarray | None, row: tuple[int, ...]
) -> Images | None:
    """Describe the images of a script; None if the model has none that are prepared or changed.

    Args:
        model: The model.
        spec: How it is trained.
        processing: How its inputs are prepared, fitted to the data.
        raw: The images as they are in the data; None where they are files in a folder.
        row: The shape of a row of the input.
    """
    name = model.inputs[0].name or ""
    how = processing.inputs.get(name)
    is_prepared = isinstance(how, Image)
    changes = spec.augment.get(name, ())
    if not is_prepared and not changes:
        return None
    image = how if isinstance(how, Image) else Image(scale=1.0)
    axis = Preparation(model, processing).channel_axis(name)
    size = (row[0], row[1]) if axis == 3 else (row[1], row[2])
    return Images(
        input=name,
        is_folder=raw is None,
        is_prepared=is_prepared,
        channels_axis=axis,
        channels=row[axis - 1],
        size=size,
        is_resized=raw is None or raw.shape[1:3] != size,
        mode=image.mode,
        scale=image.scale,
        mean=image.mean,
        std=image.std,
        changes=tuple(changes),
        largest=255 * image.scale if is_prepared else float("inf"),
    )
