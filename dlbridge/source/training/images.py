"""The functions of a training script that make images the input of a model, and change them at random."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dlbridge.source.tree.code import literal_text as text


@dataclass(frozen=True)
class Layout:
    """Where a batch of images has its axes.

    Attributes:
        channels: The axis of the channels.
        rows: That of the rows; the columns are behind it.
        before: What stands before an index of the channels of a batch.
        before_rows: What stands before an index of the rows of one image.
    """

    channels: int
    rows: int
    before: str
    before_rows: str


CHANNELS_FIRST = Layout(channels=1, rows=2, before=":, ", before_rows=":, ")
CHANNELS_LAST = Layout(channels=3, rows=1, before="..., ", before_rows="")


@dataclass(frozen=True)
class ImageDialect:
    """How a framework's script says what it does with a batch ``x`` of images.

    Attributes:
        library: The module with ``where``, ``stack``, ``flip``, ``clip`` and ``moveaxis``: ``"np"``.
        layout: Where ``x`` has its axes while it is resized and changed.
        array: The library's array of one of NumPy's: ``"torch.from_numpy({})"``.
        pixels: The ``images``, which are bytes, as floats in that layout.
        resized: The lines that resize ``x`` to ``{size}``.
        modes: "linear" and "cubic" -> ``{mode}`` in these lines.
        padded: The images between ``{n}`` zeros on every side.
        luma: The grey of images of colours.
    """

    library: str
    layout: Layout
    array: str
    pixels: str
    resized: tuple[str, ...]
    modes: Mapping[str, str]
    padded: str
    luma: str

    def moved(self, given: int, wanted: int) -> str:
        """``x`` with its channels moved from one axis to another."""
        return f"{self.library}.moveaxis(x, {given}, {wanted})"


def resized(images: Any, dialect: ImageDialect) -> list[str]:
    """The function that makes arrays of bytes images of the model's size; nothing where there are none."""
    if images is None or not images.is_prepared:
        return []
    about = "Images (batch, height, width, channels) of bytes in the size and the layout of the model's input."
    lines = [f'"""{about}"""', f"x = {dialect.pixels}"]
    if images.is_resized:
        mode = dialect.modes[images.mode]
        lines += [line.format(size=text(images.size), mode=mode) for line in dialect.resized]
    given, wanted = dialect.layout.channels, images.channels_axis
    if given != wanted:
        lines.append(f"x = {dialect.moved(given, wanted)}")
    made = f"x{_times(images.scale)}"
    if not images.changes:  # those are of pixels: what is normalized comes after them
        made = normal(images, made)
    return ["def resized(images):", *(f"    {line}" for line in [*lines, f"return {made}"])]


def augmented(images: Any, dialect: ImageDialect) -> list[str]:
    """The function that changes images at random; nothing where they are trained on as they are."""
    if images is None or not images.changes:
        return []
    lines = [line for part in images.changes for line in _CHANGES[part.kind](part, images, dialect)]
    given, wanted = images.channels_axis, dialect.layout.channels
    if given != wanted:
        lines = [f"x = {dialect.moved(given, wanted)}", *lines, f"x = {dialect.moved(wanted, given)}"]
    body = ['"""Images that are changed at random."""', *lines, "return x"]
    return ["def augmented(x, rng):", *(f"    {line}" for line in body)]


def normal(images: Any, of: str) -> str:
    """The code of images by their mean and deviation, where they have one."""
    return f"({of} - MEAN) / STD" if images.is_normalized else of


def _times(scale: float) -> str:
    """The code that multiplies by a scale."""
    if scale == 1:
        return ""
    return " / 255" if scale == 1 / 255 else f" * {text(scale)}"


def _flip(part: Any, images: Any, dialect: ImageDialect) -> Iterator[str]:
    axis = dialect.layout.rows + int(part.axis == "horizontal")
    library = dialect.library
    chosen = dialect.array.format(f"rng.random(len(x)) < {text(part.probability)}")
    yield f"is_mirrored = {chosen}"
    yield f"x = {library}.where(is_mirrored[:, None, None, None], {library}.flip(x, ({axis},)), x)"


def _crop(part: Any, images: Any, dialect: ImageDialect) -> Iterator[str]:
    height, width = images.size
    cut = f"image[{dialect.layout.before_rows}top : top + {height}, left : left + {width}]"
    yield f"padded = {dialect.padded.format(n=part.padding)}"
    yield f"places = rng.integers(0, {2 * part.padding + 1}, (len(x), 2))"
    yield f"x = {dialect.library}.stack([{cut} for image, (top, left) in zip(padded, places)])"


def _recolour(part: Any, images: Any, dialect: ImageDialect) -> Iterator[str]:
    grey = dialect.luma if images.channels >= 3 else f"x[{dialect.layout.before}:1]"
    amounts = text([part.brightness, part.contrast, part.saturation])
    factors = dialect.array.format('factors.astype("float32")')
    clipped = f"x = {dialect.library}.clip({{}}, 0, {text(images.largest)})"
    yield f"factors = 1 + (2 * rng.random((3, len(x), 1, 1, 1)) - 1) * np.reshape({amounts}, (3, 1, 1, 1, 1))"
    yield f"bright, sharp, colourful = {factors}"
    if part.brightness:
        yield clipped.format("x * bright")
    if part.contrast:
        yield f"grey = {grey}"
        yield clipped.format("sharp * x + (1 - sharp) * grey.mean((1, 2, 3))[:, None, None, None]")
    if part.saturation:
        yield f"grey = {grey}"
        yield clipped.format("colourful * x + (1 - colourful) * grey")


_CHANGES = {"flip": _flip, "crop": _crop, "color": _recolour}
