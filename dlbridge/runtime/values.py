"""numpy arrays to onnxruntime and back, with the types that onnxruntime's numpy bindings leave out."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import onnxruntime

#: Element type in onnxruntime -> numpy dtype.
DTYPES: dict[str, np.dtype] = {
    "float": np.dtype("float32"),
    "double": np.dtype("float64"),
    "string": np.dtype("object"),
    **{n: np.dtype(n) for n in ("float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
    "bool": np.dtype("bool"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
}
#: Types that numpy itself lacks -> their number in ONNX.
_NOT_NUMPY = {"bfloat16": 16, "float8e4m3fn": 17, "float8e4m3fnuz": 18, "float8e5m2": 19, "float8e5m2fnuz": 20}
_NUMBERS = {DTYPES[name]: number for name, number in _NOT_NUMPY.items()}


def element(kind: str) -> str:
    """``float`` of ``tensor(float)``; other kinds of values as they are."""
    return kind.removeprefix("tensor(").removesuffix(")") if kind.startswith("tensor(") else kind


#: An array, or a value of onnxruntime's that may be on a device.
Value: TypeAlias = np.ndarray | onnxruntime.OrtValue
#: Runs a model: (names of the outputs that are wanted, input name -> value of the dtype that it asks for, onnxruntime's
#: options of a run where there are any) -> arrays.
Run = Callable[..., list[Any]]


def is_in_range(cast: np.ndarray, array: np.ndarray) -> bool:
    """Whether numbers that were cast to floating-point numbers are still finite where they were."""
    return bool(np.array_equal(np.isfinite(cast), np.isfinite(array)))


def shape(value: Value) -> tuple[int, ...]:
    """The sizes of a value."""
    return value.shape if isinstance(value, np.ndarray) else tuple(value.shape())


def dtype(value: Value) -> np.dtype | str:
    """The numpy dtype of a value; onnxruntime's own name of a type that has none."""
    if isinstance(value, np.ndarray):
        return value.dtype
    kind = element(value.data_type())
    return DTYPES.get(kind, kind)


def described(value: Value) -> str:
    """``float32[2, 3]``."""
    return f"{dtype(value)}{list(shape(value))}"


def runner(session: onnxruntime.InferenceSession) -> Run:
    """``session.run`` for all element types."""
    kinds = {element(p.type) for p in (*session.get_inputs(), *session.get_outputs())}
    if kinds.isdisjoint(_NOT_NUMPY):
        return session.run

    def run(outputs: Sequence[str], feed: Mapping[str, Value], options: Any = None) -> list[Any]:
        given = {name: to_ort(value) for name, value in feed.items()}
        found = session.run_with_ort_values(list(outputs), given, options)
        return [_from_ort(value) for value in found]

    return run


def to_ort(value: Value) -> onnxruntime.OrtValue:
    """A value of onnxruntime's, on the host where it was an array."""
    if not isinstance(value, np.ndarray):
        return value
    array = np.asarray(value, order="C")
    number = _NUMBERS.get(array.dtype)
    if number is None:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(f"u{array.dtype.itemsize}"), number)


def _from_ort(value: onnxruntime.OrtValue) -> Any:
    kind = element(value.data_type())
    if kind not in _NOT_NUMPY:
        return value.numpy()
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(raw, dtype=DTYPES[kind]).reshape(value.shape())
