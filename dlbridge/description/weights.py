"""Weights in safetensors files: written as a stream, read memory-mapped.

The format (https://huggingface.co/docs/safetensors) is a JSON header, then the bytes of each tensor; several files have
an index, ``{"weight_map": {name: file}}``, as Hugging Face's libraries write it. dtypes that it lacks (int4, ...)
are stored as packed bytes, and the metadata key ``dlbridge.types`` says what they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.description import values
from dlbridge.errors import WeightsError

FILE = "weights.safetensors"
#: Weights beyond this are split into several files.
SHARD_BYTES = 4 * 1024**3

_INDEX_SUFFIX = ".index.json"
_TYPES_KEY = "dlbridge.types"
_MAX_HEADER_BYTES = 100_000_000
_DTYPES = {
    "BOOL": ir.DataType.BOOL,
    "U8": ir.DataType.UINT8,
    "I8": ir.DataType.INT8,
    "U16": ir.DataType.UINT16,
    "I16": ir.DataType.INT16,
    "U32": ir.DataType.UINT32,
    "I32": ir.DataType.INT32,
    "U64": ir.DataType.UINT64,
    "I64": ir.DataType.INT64,
    "F16": ir.DataType.FLOAT16,
    "BF16": ir.DataType.BFLOAT16,
    "F32": ir.DataType.FLOAT,
    "F64": ir.DataType.DOUBLE,
    "F8_E4M3": ir.DataType.FLOAT8E4M3FN,
    "F8_E5M2": ir.DataType.FLOAT8E5M2,
    "C64": ir.DataType.COMPLEX64,
}
_CODES = {of: code for code, of in _DTYPES.items()}


# --- writing ----------------------------------------------------------------------------------------------------------


def write(tensors: Mapping[str, ir.TensorProtocol], folder: Path, shard_bytes: int = SHARD_BYTES) -> str:
    """Write tensors into a folder.

    Returns:
        Name of the file to open: the weights file, or the index of several.
    """
    shards = _split(tensors, shard_bytes)
    if len(shards) == 1:
        _write_file(shards[0], folder / FILE)
        return FILE
    stem, suffix = FILE.split(".")
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"{stem}-{number:05}-of-{len(shards):05}.{suffix}"
        _write_file(shard, folder / name)
        where.update(dict.fromkeys(shard, name))
    total = sum(t.nbytes for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / f"{FILE}{_INDEX_SUFFIX}").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return f"{FILE}{_INDEX_SUFFIX}"


def _split(tensors: Mapping[str, ir.TensorProtocol], shard_bytes: int) -> list[dict[str, ir.TensorProtocol]]:
    shards: list[dict[str, ir.TensorProtocol]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards


def _write_file(tensors: Mapping[str, ir.TensorProtocol], path: Path) -> None:
    header: dict[str, Any] = {}
    types: dict[str, Any] = {}
    offset = 0
    for name, tensor in tensors.items():
        shape, code = list(tensor.shape.numpy()), _CODES.get(tensor.dtype)
        if code is None:
            types[name] = {"dtype": values.dtype_name(tensor.dtype), "shape": shape}
            code, shape = "U8", [tensor.nbytes]
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    metadata = {"format": "dlbridge", **({_TYPES_KEY: json.dumps(types)} if types else {})}
    text = json.dumps({"__metadata__": metadata, **header}, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.tobytes())


# --- reading ----------------------------------------------------------------------------------------------------------


def read(path: Path) -> dict[str, ir.TensorProtocol]:
    """The tensors of a safetensors file, or of all that an index names; memory-mapped.

    Raises:
        WeightsError: When a file is missing, truncated or broken.
    """
    if not path.name.endswith(_INDEX_SUFFIX):
        return _read_file(path)
    try:
        where = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        files = {name: path.parent / Path(str(name)).name for name in sorted(set(where.values()))}
    except OSError as error:
        raise WeightsError(error.strerror or "cannot be read", where=str(path)) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WeightsError("is no index of weights files", where=str(path)) from None
    tensors = {name: _read_file(file) for name, file in files.items()}
    for name, file in where.items():
        if name not in tensors[file]:
            raise WeightsError(f"does not hold '{name}', which the index says it does", where=str(files[file]))
    return {name: tensors[file][name] for name, file in where.items()}


def _read_file(path: Path) -> dict[str, ir.TensorProtocol]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
                raise WeightsError("is truncated, or no safetensors file", where=str(path))
            header = json.loads(file.read(length))
        data = np.memmap(path, np.uint8, "c", 8 + length) if size > 8 + length else np.empty(0, np.uint8)
    except OSError as error:
        raise WeightsError(error.strerror or "cannot be read", where=str(path)) from None
    except (ValueError, RecursionError):
        raise WeightsError("has a broken header", where=str(path), hint="write or download it again") from None
    try:
        types = json.loads(header.pop("__metadata__", {}).get(_TYPES_KEY, "{}"))
        entries = {name: _Entry(entry, types.get(name)) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WeightsError("has a broken header", where=str(path), hint="write or download it again") from None
    _check_layout(entries, data.size, path)
    return {name: entry.tensor(name, data) for name, entry in entries.items()}


class _Entry:
    """The entry for a tensor in a file's header."""

    def __init__(self, entry: Mapping[str, Any], packed: Mapping[str, Any] | None) -> None:
        self.begin, self.end = (int(offset) for offset in entry["data_offsets"])
        of = values.DTYPES[packed["dtype"]] if packed else _DTYPES[entry["dtype"]]
        self.dtype = of
        self.shape = tuple(int(size) for size in (packed or entry)["shape"])
        if min(self.shape, default=0) < 0:
            raise ValueError(self.shape)

    @property
    def nbytes(self) -> int:
        return math.ceil(math.prod(self.shape) * self.dtype.bitwidth / 8)

    def tensor(self, name: str, data: np.ndarray) -> ir.TensorProtocol:
        raw = data[self.begin : self.end]
        if self.dtype.bitwidth < 8:
            return ir.PackedTensor(raw, self.dtype, shape=ir.Shape(self.shape), name=name)
        return ir.Tensor(raw.view(self.dtype.numpy()).reshape(self.shape), dtype=self.dtype, name=name)


def _check_layout(entries: Mapping[str, _Entry], size: int, path: Path) -> None:
    """Check that the tensors follow one another and fill the file."""
    position = 0
    ordered: Iterable[tuple[str, _Entry]] = sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end))
    for name, entry in ordered:
        if entry.begin != position or entry.end - entry.begin != entry.nbytes:
            raise WeightsError(f"the bytes of '{name}' do not fit its shape and dtype", where=str(path))
        position = entry.end
    if position != size:
        raise WeightsError(
            f"is truncated: {size:,} bytes of weights, {position:,} expected"
            if size < position
            else "has bytes left over",
            where=str(path),
            hint="write or download it again",
        )
