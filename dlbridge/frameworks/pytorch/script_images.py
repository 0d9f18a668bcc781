"""The functions of a script that make images to what a model takes, and change them in training, in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlbridge.source.code import literal_text as text
from dlbridge.source.script import augmenting, normal, resizing

#: The code of the grey of images (batch, channels, height, width), by the number of channels.
_GREY = "(x[:, :3] * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)"


def resized(images: Any) -> list[str]:
    """The function that makes arrays of bytes to images of the model's size; nothing where there are none."""
    if images is None or not images.is_prepared:
        return []
    lines = ["    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()"]
    if images.is_resized:
        mode = "bilinear" if images.mode == "linear" else "bicubic"
        lines.append(f'    x = F.interpolate(x, {text(images.size)}, mode="{mode}", antialias=True)')
    if images.channels_axis == 3:
        lines.append("    x = x.permute(0, 2, 3, 1)")
    return resizing(images, lines)


def changed(images: Any, name: str, seed: int) -> list[str]:
    """The lines that change the images of a batch in training."""
    made = f"augmented({name}, np.random.default_rng([{seed}, epoch, place, 0]))"
    return [f"{name} = {normal(images, made)}"]


def augmented(images: Any) -> list[str]:
    """The function that changes images at random; nothing where they are trained on as they are."""
    return augmenting(images, _change, 3, ("x.movedim(3, 1)", "x.movedim(1, 3)"))


def _change(part: Any, images: Any) -> Iterator[str]:
    if part.kind == "flip":
        axis = 3 if part.axis == "horizontal" else 2
        yield f"is_mirrored = torch.from_numpy(rng.random(len(x)) < {text(part.probability)})[:, None, None, None]"
        yield f"x = torch.where(is_mirrored, x.flip({axis}), x)"
    elif part.kind == "crop":
        height, width = images.size
        cut = f"image[:, top : top + {height}, left : left + {width}]"
        yield f"padded = F.pad(x, {[part.padding] * 4})"
        yield f"places = rng.integers(0, {2 * part.padding + 1}, (len(x), 2)).tolist()"
        yield f"x = torch.stack([{cut} for image, (top, left) in zip(padded, places)])"
    else:
        grey = _GREY if images.channels >= 3 else "x[:, :1]"
        amounts = text([part.brightness, part.contrast, part.saturation])
        yield f"factors = 1 + (2 * rng.random((3, len(x), 1, 1, 1)) - 1) * np.reshape({amounts}, (3, 1, 1, 1, 1))"
        yield "bright, sharp, colourful = torch.from_numpy(factors).float()"
        cut = f".clamp(0, {text(images.largest)})"
        if part.brightness:
            yield f"x = (x * bright){cut}"
        if part.contrast:
            yield f"grey = {grey}"
            yield f"x = (sharp * x + (1 - sharp) * grey.mean((1, 2, 3), keepdim=True)){cut}"
        if part.saturation:
            yield f"grey = {grey}"
            yield f"x = (colourful * x + (1 - colourful) * grey){cut}"
