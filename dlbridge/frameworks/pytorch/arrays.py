"""Tensors as numpy arrays, and arrays as tensors; bfloat16 and float8 are in the types of ``ml_dtypes``."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """A numpy array from a tensor."""
    tensor = tensor.detach().cpu().resolve_conj()
    try:
        return tensor.numpy()
    except TypeError:
        bits = tensor.contiguous().view(torch.uint8 if tensor.element_size() == 1 else torch.int16).numpy()
        return bits.view(getattr(ml_dtypes, dtype_name(tensor.dtype)))


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor of its own memory from an array."""
    return shared(np.array(array, copy=True, order="C"))


def shared(array: np.ndarray) -> torch.Tensor:
    """A tensor that shares an array's memory, to be read alone where the array may not be written."""
    array = np.asarray(array, order="C")
    has_own_type = type(array.dtype.type(0)).__module__ == "ml_dtypes"
    bits = array.view(f"u{array.dtype.itemsize}") if has_own_type else array
    tensor = torch.from_numpy(bits if bits.flags.writeable or not bits.size else np.asarray(_Readable(bits)))
    return tensor.view(getattr(torch, array.dtype.name)) if has_own_type else tensor


class _Readable:
    """The memory of an array that may not be written, for torch, which is to read it alone."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def dtype_name(dtype: Any) -> str:
    """``float32`` of torch's dtype, or of numpy's."""
    return str(dtype).removeprefix("torch.")
