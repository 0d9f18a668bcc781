"""Images as rows of an input, (batch, C, H, W), (batch, H, W, C) or (batch, H, W), C 1, 3 or 4: grey, RGB or RGBA.

They are turned as their EXIF data says and never resized. A float input gets 0..1 (value / 255), a uint8 one 0..255.
Files may be hostile: what they claim to hold is checked before memory is allocated for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from dlbridge.errors import FileError, SignatureError, require
from dlbridge.runtime.signature import Port

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif")
#: Pixels of an image.
MAX_PIXELS = 100_000_000
#: What Pillow may read: other formats have decoders that few look at, and one of them runs another program.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
#: What Pillow raises over broken files.
_BROKEN = (OSError, ValueError, SyntaxError, TypeError, LookupError, OverflowError, MemoryError, struct.error)
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def image_reader(port: Port, where: str, budget: int | None = None) -> Callable[[Path | IO[bytes]], np.ndarray]:
    """A function that reads an image, a path or an open file, as a row of an input, by the rule of this module.

    Args:
        port: The input.
        where: What messages call the images.
        budget: Pixels that all that is read may have together; None for as many as each may have.

    Returns:
        A function that raises FileError when a file is no image, and SignatureError when it does not fit the input.

    Raises:
        SignatureError: When the input takes no images.
        MissingExtraError: When Pillow is not installed.
    """
    require("PIL", "data")
    channels, first = _channels(port, where)
    left = budget

    def read(file: Path | IO[bytes]) -> np.ndarray:
        nonlocal left
        name = str(file) if isinstance(file, Path) else where
        pixels = decoded(file, channels, name, MAX_PIXELS if left is None else left)
        if left is not None:
            left -= pixels.shape[0] * pixels.shape[1]
        return _fitted(pixels, port, first, name)

    return read


def stacked(files: Sequence[Path], read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """Images as one array.

    Raises:
        SignatureError: When they are not of one size.
    """
    arrays = [read(file) for file in files]
    for file, array in zip(files, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise SignatureError(
                f"it is {array.shape}, the first of its batch {arrays[0].shape}",
                where=str(file),
                hint="batch_size=1 takes them one by one",
            )
    return np.stack(arrays)


def _channels(port: Port, where: str) -> tuple[int, bool]:
    """How many channels an image input has, and whether they come before the rows."""
    shape = port.shape
    if port.dtype != np.uint8 and port.dtype.kind in "biuO":
        raise SignatureError(f"an image is uint8 or float, the input is {port}", where=where)
    if len(shape) == 3:
        return 1, False
    if len(shape) == 4 and shape[1] in _MODES:
        return shape[1], True  # type: ignore[return-value]
    if len(shape) == 4 and shape[3] in _MODES:
        return shape[3], False  # type: ignore[return-value]
    raise SignatureError(
        f"the input {port} takes no images: they are (batch, C, H, W) or (batch, H, W, C)", where=where
    )


def decoded(file: str | Path | IO[bytes], channels: int, where: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """An image of a file as bytes (height, width, channels), turned as its EXIF data says.

    Args:
        file: Its path, or an open file.
        channels: 1, 3 or 4: grey, RGB or RGBA.
        where: What messages call it.
        max_pixels: Pixels that it may have: a file of 300 bytes can claim millions.

    Raises:
        FileError: When it is no image, or too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise FileError(f"{image.width} x {image.height} pixels are more than is read", where=where)
            pixels = np.asarray(ImageOps.exif_transpose(image).convert(_MODES[channels]))
    except (UnidentifiedImageError, Image.DecompressionBombError, *_BROKEN) as error:
        raise FileError(f"not an image: {error}", where=where) from None
    return pixels.reshape(*pixels.shape[:2], channels)


def _fitted(pixels: np.ndarray, port: Port, first: bool, where: str) -> np.ndarray:
    height, width = pixels.shape[:2]
    if len(port.shape) != 4:
        pixels = pixels[..., 0]
    if first:
        pixels = np.moveaxis(pixels, -1, 0)
    for axis, (found, wanted) in enumerate(zip(pixels.shape, port.shape[1:], strict=True)):
        if isinstance(wanted, int) and found != wanted:
            raise SignatureError(
                f"the image is {height} rows x {width} columns, the input is {port} (axis {axis + 1})",
                where=where,
                hint="resize the images first: how they are resized is part of the model's preprocessing",
            )
    return pixels if port.dtype == np.uint8 else (pixels.astype(np.float32) / np.float32(255)).astype(port.dtype)
