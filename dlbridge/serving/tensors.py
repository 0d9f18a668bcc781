"""Tensors as the Open Inference Protocol carries them: a datatype, a shape and the bytes of the elements.

A tensor stays the bytes that came in until a worker makes an array of it: joining rows to a batch is joining bytes.
Elements are little-endian and in row-major order; an element of ``BYTES`` is its length (32 bits) and its bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dlbridge.repository.datatypes import KINDS, OF_NUMPY
from dlbridge.serving.problems import ServingError

_LENGTH = struct.Struct("<I")
#: Bytes that numpy can count.
_MOST_BYTES = (1 << 63) - 1
#: What elements of JSON are, by the kind of array that numpy makes of them.
_KINDS_IN_WORDS = {"b": "booleans", "i": "whole numbers", "u": "whole numbers", "f": "floating-point numbers"}
_KINDS_IN_WORDS |= {"U": "strings", "O": "not of one kind, or null"}
Buffer = bytes | bytearray | memoryview


class Tensor(NamedTuple):
    """A tensor on its way.

    Attributes:
        datatype: Name of the element type in the protocol (``FP32``).
        shape: Its sizes.
        data: The bytes of its elements.
    """

    datatype: str
    shape: tuple[int, ...]
    data: Buffer


def datatype_of(dtype: np.dtype, where: str | None = None) -> str:
    """The protocol's name of a numpy dtype.

    Raises:
        ServingError: When it has none (``float8_e4m3fn``).
    """
    name = OF_NUMPY.get(dtype.name)
    if name is None:
        raise ServingError(
            f"the protocol has no datatype for {dtype.name}", where=where, hint="put a Cast into the model"
        )
    return name


def item_size(datatype: str) -> int:
    """Bytes an element; 0 for ``BYTES``, whose elements have no fixed size."""
    return KINDS[datatype][2]


def zeros(datatype: str, shape: Sequence[int]) -> bytes:
    """The bytes of a tensor of zeros, or of empty strings."""
    return bytes(math.prod(shape) * (item_size(datatype) or _LENGTH.size))


def check_size(tensor: Tensor, where: str) -> None:
    """Check that a tensor has as many elements as its shape says.

    Raises:
        ServingError: When it has more or fewer, or no array can have such a shape.
    """
    count = math.prod(tensor.shape)
    if math.prod(filter(None, tensor.shape)) * max(item_size(tensor.datatype), 8) > _MOST_BYTES:
        raise ServingError(f"no tensor can have the shape {list(tensor.shape)}", where=where)
    if tensor.datatype == "BYTES":
        found = sum(1 for _ in strings(tensor.data, where))
        if found != count:
            raise ServingError(f"shape {list(tensor.shape)} wants {count} strings, {found} came", where=where)
        return
    expected = count * item_size(tensor.datatype)
    if len(tensor.data) != expected:
        what = f"{tensor.datatype}{list(tensor.shape)}"
        raise ServingError(f"{what} has {expected} bytes, {len(tensor.data)} came", where=where)


def strings(data: Buffer, where: str = "") -> Iterable[memoryview]:
    """The elements of a ``BYTES`` tensor.

    Raises:
        ServingError: When an element is longer than what is left.
    """
    view, place = memoryview(data), 0
    while place < len(view):
        if place + _LENGTH.size > len(view):
            raise ServingError("the last string's length is cut off", where=where)
        (length,) = _LENGTH.unpack_from(view, place)
        place += _LENGTH.size
        if place + length > len(view):
            raise ServingError(f"a string of {length} bytes is cut off", where=where)
        yield view[place : place + length]
        place += length


def join_strings(elements: Iterable[Buffer]) -> bytes:
    """The bytes of a ``BYTES`` tensor of these elements."""
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))


def join_rows(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one datatype and one shape but for the first size, as one."""
    first = tensors[0]
    rows = sum(t.shape[0] for t in tensors)
    return Tensor(first.datatype, (rows, *first.shape[1:]), b"".join(t.data for t in tensors))


def split_rows(tensor: Tensor, rows: Sequence[int]) -> list[Tensor]:
    """A tensor cut along its first size."""
    inner = tensor.shape[1:]
    view = memoryview(tensor.data)
    if tensor.datatype == "BYTES":
        elements = list(strings(view))
        each = math.prod(inner)
        ends = np.cumsum(rows).tolist()
        pieces = [join_strings(elements[(e - r) * each : e * each]) for r, e in zip(rows, ends, strict=True)]
        return [Tensor("BYTES", (r, *inner), piece) for r, piece in zip(rows, pieces, strict=True)]
    size = item_size(tensor.datatype) * math.prod(inner)
    parts, start = [], 0
    for count in rows:
        parts.append(Tensor(tensor.datatype, (count, *inner), view[start : start + count * size]))
        start += count * size
    return parts


def from_json(datatype: str, shape: tuple[int, ...], values: Any, where: str) -> Tensor:
    """A tensor of the numbers, booleans or strings of a JSON list, flat or nested.

    Raises:
        ServingError: When they are not of the datatype, or of another number than the shape says.
    """
    if datatype in ("FP16", "BF16"):
        raise ServingError(f"{datatype} cannot be given as JSON", where=where, hint="use the binary tensor extension")
    if datatype == "BYTES":
        return _strings_from_json(shape, values, where)
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise ServingError(f"its data make no tensor: {error}", where=where) from None
    count = math.prod(shape)
    if array.size != count:
        raise ServingError(f"shape {list(shape)} wants {count} elements, {array.size} came", where=where)
    if array.size == 0:
        return Tensor(datatype, shape, b"")
    if array.dtype.kind == "f" and datatype in ("INT64", "UINT64"):
        array = _whole_numbers(values, array)
    allowed = {"BOOL": "b", "FP32": "iuf", "FP64": "iuf"}.get(datatype, "iu")
    if array.dtype.kind not in allowed:
        raise ServingError(f"its data are {_KINDS_IN_WORDS[array.dtype.kind]}, not {datatype}", where=where)
    return Tensor(datatype, shape, in_range(array, datatype, where).tobytes())


def _whole_numbers(values: Any, rounded: np.ndarray) -> np.ndarray:
    """Whole numbers that numpy has rounded to float64: some of them, not all, are above the largest of int64."""
    exact = np.asarray(values, object)
    if any(type(element) is not int for element in exact.reshape(-1)):
        return rounded
    try:
        return exact.astype(np.uint64)
    except OverflowError:  # others are negative: no type has them all
        return rounded


def in_range(array: np.ndarray, datatype: str, where: str) -> np.ndarray:
    """Numbers in the type of a datatype.

    Raises:
        ServingError: When one is not in its range.
    """
    dtype = KINDS[datatype][0]
    assert dtype is not None
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
    is_whole = dtype.kind in "iu"
    fits = np.array_equal(cast, array) if is_whole else np.array_equal(np.isinf(cast), np.isinf(array))
    if not fits:
        raise ServingError(f"a number is out of the range of {datatype}", where=where)
    return cast


def _strings_from_json(shape: tuple[int, ...], values: Any, where: str) -> Tensor:
    flat: list[bytes] = []
    pending = [values]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(reversed(item))
        elif isinstance(item, str):
            flat.append(item.encode())
        else:
            raise ServingError(f"its data hold a {type(item).__name__}, not strings alone", where=where)
    if len(flat) != math.prod(shape):
        raise ServingError(f"shape {list(shape)} wants {math.prod(shape)} strings, {len(flat)} came", where=where)
    return Tensor("BYTES", shape, join_strings(flat))


def to_json(tensor: Tensor, where: str) -> list[Any]:
    """The elements as a flat list of JSON values.

    Raises:
        ServingError: For ``FP16`` and ``BF16``, NaN and infinite numbers, and bytes that are no UTF-8: these have no
            JSON form.
    """
    if tensor.datatype in ("FP16", "BF16"):
        raise ServingError(f"{tensor.datatype} has no JSON form", where=where, hint="ask for binary data")
    if tensor.datatype == "BYTES":
        try:
            return [bytes(element).decode() for element in strings(tensor.data)]
        except UnicodeDecodeError:
            raise ServingError("a string is no UTF-8", where=where, hint="ask for binary data") from None
    array = np.frombuffer(tensor.data, KINDS[tensor.datatype][0])
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ServingError(
            "it holds NaN or an infinite number, which JSON has not", where=where, hint="ask for binary data"
        )
    return array.tolist()


def to_array(tensor: Tensor) -> np.ndarray:
    """The tensor as a numpy array (strings as ``str`` objects)."""
    if tensor.datatype == "BYTES":
        texts = [bytes(element).decode("utf-8", "surrogateescape") for element in strings(tensor.data)]
        return np.array(texts, dtype=object).reshape(tensor.shape)
    dtype = KINDS[tensor.datatype][0]
    if dtype is None:
        import ml_dtypes

        dtype = np.dtype(ml_dtypes.bfloat16)
    array = np.frombuffer(tensor.data, dtype)
    if dtype.kind == "b":
        array = array.view(np.uint8) != 0  # a client's true may be any byte but 0; kernels count on 1
    return array.reshape(tensor.shape)


def from_array(array: np.ndarray) -> Tensor:
    """A numpy array as a tensor."""
    if array.dtype == object or array.dtype.kind in "SU":
        texts = (e if isinstance(e, bytes) else str(e).encode("utf-8", "surrogateescape") for e in array.reshape(-1))
        return Tensor("BYTES", array.shape, join_strings(texts))
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return Tensor(datatype_of(array.dtype), array.shape, data)
