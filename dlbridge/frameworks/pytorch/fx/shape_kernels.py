"""Meta kernels (shapes only) of ops for which PyTorch 2.13 has none, and which it would export at fixed sizes only."""

from __future__ import annotations

from typing import Any

import torch

from dlbridge.frameworks.pytorch import compat

_library = torch.library.Library("aten", "IMPL")


def _masked(x: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)


def register() -> None:
    """Give torch those that it does not have."""
    for name in (
        "fake_quantize_per_tensor_affine_cachemask",
        "fake_quantize_per_channel_affine_cachemask",
        "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    ):
        if not compat.has_kernel(f"aten::{name}", "Meta"):
            _library.impl(name, _masked, "Meta")
