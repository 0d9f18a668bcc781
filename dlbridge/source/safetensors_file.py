"""Writes a safetensors file as a stream: one array is in memory at a time, beside what is mapped from files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dlbridge.source.weights import contiguous

__all__ = ["save"]

_FLOATS = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_NARROW = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "bool": "BOOL"}
_INTEGERS = {f"{sign}int{bits}": f"{sign.upper() or 'I'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
#: numpy dtype -> what safetensors calls it.
_NAMES = {**_FLOATS, **_NARROW, **_INTEGERS}


def save(arrays: Callable[[], Iterable[tuple[str, np.ndarray]]], path: Path) -> None:
    """Write arrays by name.

    Args:
        arrays: Gives (name, array), one at a time; it is called twice, for the header and for the numbers.
        path: The file.

    Raises:
        ValueError: When the format has no name for a dtype.
    """
    header: dict[str, Any] = {}
    offset = 0
    for name, array in arrays():
        if array.dtype.name not in _NAMES:
            raise ValueError(f"safetensors has no {array.dtype}")
        end = offset + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in arrays():
            file.write(contiguous(array).reshape(-1).view(np.uint8).data if array.size else b"")
