"""Images in a training script of PyTorch."""

from __future__ import annotations

from typing import Any

from dlbridge.source.training.images import CHANNELS_FIRST, ImageDialect, normal

TORCH = ImageDialect(
    *("torch", CHANNELS_FIRST, "torch.from_numpy({})"),
    pixels="torch.from_numpy(images).permute(0, 3, 1, 2).float()",
    resized=('x = F.interpolate(x, {size}, mode="{mode}", antialias=True)',),
    modes={"linear": "bilinear", "cubic": "bicubic"},
    padded="F.pad(x, [{n}, {n}, {n}, {n}])",
    luma="(x[:, :3] * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)",
)


def changed(images: Any, name: str, seed: int) -> str:
    """The line that changes the images of a batch in training."""
    made = f"augmented({name}, np.random.default_rng([{seed}, epoch, place, 0]))"
    return f"{name} = {normal(images, made)}"
