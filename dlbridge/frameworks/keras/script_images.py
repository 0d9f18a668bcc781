"""The functions of a script that make images to what a model takes, and change them in training, in Keras and NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlbridge.source.code import literal_text as text
from dlbridge.source.script import augmenting, resizing

#: The code of the grey of images (batch, height, width, channels).
_GREY = '(x[..., :3] * np.array([0.299, 0.587, 0.114], "float32")).sum(-1, keepdims=True)'


def resized(images: Any) -> list[str]:
    """The function that makes arrays of bytes to images of the model's size; nothing where there are none."""
    if images is None or not images.is_prepared:
        return []
    lines = ['    x = images.astype("float32")']
    if images.is_resized:
        mode = "" if images.mode == "linear" else ' interpolation="bicubic",'
        how = f'{text(images.size)},{mode} antialias=True, data_format="channels_last"'
        lines += [f"    x = keras.ops.image.resize(x, {how})", "    x = keras.ops.convert_to_numpy(x)"]
    if images.channels_axis == 1:
        lines.append("    x = x.transpose(0, 3, 1, 2)")
    return resizing(images, lines)


def augmented(images: Any) -> list[str]:
    """The function that changes images at random; nothing where they are trained on as they are."""
    return augmenting(images, _change, 1, ("np.moveaxis(x, 1, 3)", "np.moveaxis(x, 3, 1)"))


def _change(part: Any, images: Any) -> Iterator[str]:
    if part.kind == "flip":
        mirrored = "x[:, :, ::-1]" if part.axis == "horizontal" else "x[:, ::-1]"
        yield f"is_mirrored = rng.random(len(x)) < {text(part.probability)}"
        yield f"x = np.where(is_mirrored[:, None, None, None], {mirrored}, x)"
    elif part.kind == "crop":
        height, width = images.size
        cut, around = f"image[top : top + {height}, left : left + {width}]", (part.padding, part.padding)
        yield f"padded = np.pad(x, [(0, 0), {around}, {around}, (0, 0)])"
        yield f"places = rng.integers(0, {2 * part.padding + 1}, (len(x), 2))"
        yield f"x = np.stack([{cut} for image, (top, left) in zip(padded, places)])"
    else:
        grey = _GREY if images.channels >= 3 else "x[..., :1]"
        amounts = text([part.brightness, part.contrast, part.saturation])
        yield f"factors = 1 + (2 * rng.random((3, len(x), 1, 1, 1)) - 1) * np.reshape({amounts}, (3, 1, 1, 1, 1))"
        yield 'bright, sharp, colourful = factors.astype("float32")'
        most = text(images.largest)
        if part.brightness:
            yield f"x = np.clip(x * bright, 0, {most})"
        if part.contrast:
            yield f"grey = {grey}"
            yield f"x = np.clip(sharp * x + (1 - sharp) * grey.mean((1, 2, 3), keepdims=True), 0, {most})"
        if part.saturation:
            yield f"grey = {grey}"
            yield f"x = np.clip(colourful * x + (1 - colourful) * grey, 0, {most})"
