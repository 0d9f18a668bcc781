"""Images in a training script of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlbridge.source.code import literal_text as text
from dlbridge.source.script_images import CHANNELS_FIRST, ImageDialect, normal

TORCH = ImageDialect(
    library="torch",
    layout=CHANNELS_FIRST,
    array="torch.from_numpy({})",
    padded="F.pad(x, [{n}, {n}, {n}, {n}])",
    luma="(x[:, :3] * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)",
)


def prepared(images: Any) -> Iterator[str]:
    """Yield the lines that make the input of the model of ``images``, which are bytes."""
    yield "x = torch.from_numpy(images).permute(0, 3, 1, 2).float()"
    if images.is_resized:
        mode = "bilinear" if images.mode == "linear" else "bicubic"
        yield f'x = F.interpolate(x, {text(images.size)}, mode="{mode}", antialias=True)'
    if images.channels_axis == 3:
        yield "x = x.permute(0, 2, 3, 1)"


def changed(images: Any, name: str, seed: int) -> str:
    """The line that changes the images of a batch in training."""
    made = f"augmented({name}, np.random.default_rng([{seed}, epoch, place, 0]))"
    return f"{name} = {normal(images, made)}"
