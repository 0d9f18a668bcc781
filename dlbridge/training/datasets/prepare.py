"""The settings of a specification for the data: how inputs are prepared and, in training, augmented."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from dlbridge.processing.spec import Size
from dlbridge.training.parts import Part

# --- what is fitted, and kept with the model --------------------------------------------------------------------------


class PreparedImage(Part):
    """Images of bytes, of any height and width: resized to the size of the input as Pillow does, times ``scale``.

    With ``normalize`` also ``(x - mean) / std`` of each channel, of all pixels that are trained on.
    """

    kind: Literal["image"]
    size: tuple[Size, Size] | None = Field(None, description="(height, width). Default: the input's own.")
    fit: Literal["stretch", "cover"] = Field(
        "stretch", description="'cover' keeps the aspect ratio and crops the middle; 'stretch' does not keep it."
    )
    mode: Literal["nearest", "linear", "cubic"] = "linear"
    scale: float = Field(1 / 255, gt=0, description="What bytes are multiplied by.")
    normalize: bool = False
    layout: Literal["channels_first", "channels_last"] | None = Field(
        None, description="Of the model's input. Default: the axis that has 1, 3 or 4 channels."
    )


class Standardize(Part):
    """Columns of numbers: ``(x - mean) / std`` of each one, of the rows that are trained on.

    The deviation is that of all rows (divided by their number); a column that never changes is divided by 1.
    """

    kind: Literal["standardize"]


Prepare = Annotated[PreparedImage | Standardize, Field(discriminator="kind")]

# --- what is drawn anew in every epoch --------------------------------------------------------------------------------


class _Augmentation(Part):
    kind: str

    def change(self, x: np.ndarray, rng: np.random.Generator, largest: float) -> np.ndarray:
        """Images (batch, height, width, channels), of numbers up to ``largest``, as they are trained on."""
        raise NotImplementedError


class Flip(_Augmentation):
    """Each image is mirrored, left and right or ``vertical``, with a ``probability``."""

    kind: Literal["flip"]
    axis: Literal["horizontal", "vertical"] = "horizontal"
    probability: float = Field(0.5, ge=0, le=1)

    def change(self, x: np.ndarray, rng: np.random.Generator, largest: float) -> np.ndarray:
        mirrored = x[:, :, ::-1] if self.axis == "horizontal" else x[:, ::-1]
        return np.where((rng.random(len(x)) < self.probability)[:, None, None, None], mirrored, x)


class Crop(_Augmentation):
    """Each image gets ``padding`` black pixels on every side, and a part of its own size is taken at a random place."""

    kind: Literal["crop"]
    padding: int = Field(4, ge=1)

    def change(self, x: np.ndarray, rng: np.random.Generator, largest: float) -> np.ndarray:
        height, width = x.shape[1:3]
        wide = np.pad(x, [(0, 0), *[(self.padding, self.padding)] * 2, (0, 0)])
        places = rng.integers(0, 2 * self.padding + 1, (len(x), 2))
        return np.stack(
            [image[top : top + height, left : left + width] for image, (top, left) in zip(wide, places, strict=True)]
        )


class Color(_Augmentation):
    """Brightness, contrast and saturation of each image, in this order, each by a factor from ``1 - f`` to ``1 + f``.

    ``x f``; ``f x + (1 - f) mean``, of the mean of the image's grey; ``f x + (1 - f) grey``; each kept within black and
    white. Grey is ``0.299 r + 0.587 g + 0.114 b``. Source: ``torchvision.transforms.ColorJitter``.
    """

    kind: Literal["color"]
    brightness: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.0, ge=0, le=1)
    saturation: float = Field(0.0, ge=0, le=1)

    def change(self, x: np.ndarray, rng: np.random.Generator, largest: float) -> np.ndarray:
        factors = 1 + (2 * rng.random((3, len(x), 1, 1, 1)) - 1) * np.reshape(
            [self.brightness, self.contrast, self.saturation], (3, 1, 1, 1, 1)
        )
        bright, sharp, colourful = factors.astype(x.dtype)
        if self.brightness:
            x = np.clip(x * bright, 0, largest)
        if self.contrast:
            x = np.clip(sharp * x + (1 - sharp) * _grey(x).mean(axis=(1, 2, 3), keepdims=True), 0, largest)
        if self.saturation:
            x = np.clip(colourful * x + (1 - colourful) * _grey(x), 0, largest)
        return x


def _grey(x: np.ndarray) -> np.ndarray:
    if x.shape[-1] < 3:
        return x[..., :1]
    return (x[..., :3] * np.array([0.299, 0.587, 0.114], x.dtype)).sum(-1, keepdims=True)


Augmentation = Annotated[Flip | Crop | Color, Field(discriminator="kind")]
PREPARES: tuple[type[Any], ...] = (PreparedImage, Standardize)
AUGMENTATIONS: tuple[type[Any], ...] = (Flip, Crop, Color)
