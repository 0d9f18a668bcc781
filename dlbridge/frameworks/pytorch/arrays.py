"""Tensors as numpy arrays."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """A numpy array from a tensor; bfloat16 and float8 become their ``ml_dtypes``."""
    tensor = tensor.detach().cpu().resolve_conj()
    try:
        return tensor.numpy()
    except TypeError:
        bits = tensor.contiguous().view(torch.uint8 if tensor.element_size() == 1 else torch.int16).numpy()
        return bits.view(getattr(ml_dtypes, str(tensor.dtype).removeprefix("torch.")))
