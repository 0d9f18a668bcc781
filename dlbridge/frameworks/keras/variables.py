"""Keras' variables, and those of its backend, as weights of a graph."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import keras
import numpy as np

from dlbridge.source.weights import contiguous, copy_into

#: Arrays of so many bytes get memory that goes with them. TensorFlow wants it to start at a multiple of the other.
_LARGE, _ALIGNED = 1 << 20, 64
#: How many threads copy weights.
_THREADS = min(4, os.cpu_count() or 1)


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
    """A copy of an array as a tensor of the backend."""
    if array.dtype == dtype and _is_shared(array):
        return _tensor(_aligned(array))
    return keras.ops.convert_to_tensor(contiguous(array), dtype=dtype)


class CopiesAhead:
    """Copies of a model's large weights, which threads make while Keras makes its layers.

    A copy takes as long as the machine needs to give its memory, and leaves Python alone meanwhile.

    Args:
        read: Reads the weight of a key.
        keys: The keys of the weights.
    """

    def __init__(self, read: Callable[[str], np.ndarray], keys: Iterable[str]) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "dlbridge-weights")
        self._read = read
        ahead = keys if keras.backend.backend() == "tensorflow" else ()
        self._arrays = {key: self._threads.submit(self._copied, key) for key in ahead}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def tensor(self, key: str, dtype: str) -> Any:
        """A copy of a weight as a tensor of the backend."""
        array = self._arrays.pop(key).result() if key in self._arrays else None
        if array is None:
            return to_tensor(self._read(key), dtype)
        return _tensor(array) if array.dtype == dtype and _is_shared(array) else to_tensor(array, dtype)

    def _copied(self, key: str) -> np.ndarray:
        """A weight's array; of a large one, a copy whose memory the tensor then takes over."""
        array = self._read(key)
        return _aligned(array) if _is_shared(array) else array


def _is_shared(array: np.ndarray) -> bool:
    """Whether a tensor shares the memory of a copy: TensorFlow would copy a large one twice, and keep both memories."""
    is_plain = array.dtype.kind in "fiu" and array.dtype.isnative
    return is_plain and array.nbytes >= _LARGE and keras.backend.backend() == "tensorflow"


def _tensor(copy: np.ndarray) -> Any:
    import tensorflow as tf

    return tf.experimental.dlpack.from_dlpack(copy.__dlpack__())


def _aligned(array: np.ndarray) -> np.ndarray:
    """A copy of an array at an address that TensorFlow takes as it is."""
    memory = np.empty(array.nbytes + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy_into(copy, array)
    return copy
