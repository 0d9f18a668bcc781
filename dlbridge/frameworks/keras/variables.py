"""Keras' variables, and those of its backend, as weights of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from dlbridge.source.weights import contiguous, copy_into

#: Arrays of so many bytes get memory that goes with them. TensorFlow wants it to start at a multiple of the other.
_LARGE, _ALIGNED = 1 << 20, 64


class RawVariable:
    """A variable of the backend without a Keras variable around it. Keras does not train it."""

    trainable = False

    def __init__(self, held: Any) -> None:
        self.held, self.shape, self.dtype = held, held.shape, keras.backend.standardize_dtype(held.dtype)
        self.name = str(getattr(held, "name", None) or "variable").partition(":")[0].rpartition("/")[2]
        self.path = self.name

    @property
    def value(self) -> Any:
        return keras.ops.convert_to_tensor(self.held)


def snapshot(variable: Any) -> Callable[[], np.ndarray]:
    """A function that returns the present numbers of a variable later, without a copy if the backend allows that."""
    tensor = variable.value
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tensor = tf.convert_to_tensor(tensor)
        if tensor.dtype != tf.bfloat16 and tensor.device.endswith("CPU:0"):
            return lambda: np.asarray(memoryview(tensor))
    return lambda: keras.ops.convert_to_numpy(tensor)


def hollow(variable: Any) -> np.ndarray:
    """An array of the variable's shape that takes no memory."""
    return np.broadcast_to(np.zeros((), np.float32), tuple(variable.shape))


def to_tensor(array: np.ndarray, dtype: str) -> Any:
    """A copy of an array as a tensor of the backend.

    TensorFlow would copy a large one twice, and keep the memory of both when the tensor is gone.
    """
    plain = array.dtype == dtype and array.dtype.kind in "fiu"
    if not plain or array.nbytes < _LARGE or keras.backend.backend() != "tensorflow":
        return keras.ops.convert_to_tensor(contiguous(array), dtype=dtype)
    import tensorflow as tf

    return tf.experimental.dlpack.from_dlpack(_aligned(array).__dlpack__())


def _aligned(array: np.ndarray) -> np.ndarray:
    """A copy of an array at an address that TensorFlow takes as it is."""
    memory = np.empty(array.nbytes + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy_into(copy, array)
    return copy
