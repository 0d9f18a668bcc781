"""numpy arrays to onnxruntime and back, with the types that onnxruntime's numpy bindings leave out."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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


def element(kind: str) -> str:
    """``float`` of ``tensor(float)``; other kinds of values as they are."""
    return kind.removeprefix("tensor(").removesuffix(")") if kind.startswith("tensor(") else kind


#: Runs a model: (names of the outputs that are wanted, input name -> array of the dtype that it asks for) -> outputs.
Run = Callable[[Sequence[str], Mapping[str, np.ndarray]], list[Any]]


def runner(session: onnxruntime.InferenceSession) -> Run:
    """``session.run`` for all element types."""
    kinds = {p.name: element(p.type) for p in session.get_inputs()}
    made = {element(p.type) for p in session.get_outputs()}
    if made.isdisjoint(_NOT_NUMPY) and _NOT_NUMPY.keys().isdisjoint(kinds.values()):
        return session.run

    def run(outputs: Sequence[str], feed: Mapping[str, np.ndarray]) -> list[Any]:
        values = session.run_with_ort_values(list(outputs), {n: _to_ort(a, kinds[n]) for n, a in feed.items()})
        return [_from_ort(v) for v in values]

    return run


def _to_ort(array: np.ndarray, kind: str) -> onnxruntime.OrtValue:
    array = np.ascontiguousarray(array)
    if kind not in _NOT_NUMPY:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    bits = array.view(f"u{array.dtype.itemsize}")
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _NOT_NUMPY[kind])


def _from_ort(value: onnxruntime.OrtValue) -> Any:
    kind = element(value.data_type())
    if kind not in _NOT_NUMPY:
        return value.numpy()
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(raw, dtype=DTYPES[kind]).reshape(value.shape())
