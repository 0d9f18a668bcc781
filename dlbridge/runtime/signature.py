"""What a model takes and gives, and the check that arrays fit it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from onnxruntime import OrtValue

from dlbridge import constraints
from dlbridge.errors import FileError, SignatureError, suggest
from dlbridge.runtime import values
from dlbridge.runtime.values import Value


@dataclass(frozen=True)
class Port:
    """An input or an output of a model.

    Attributes:
        name: Its name.
        dtype: Its numpy dtype (``object`` for strings).
        shape: Its sizes: numbers, names of sizes that are free (``batch``), None where nothing is said.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | str | None, ...]

    def zeros(self, sizes: Mapping[str, int]) -> np.ndarray:
        """An array of zeros (or empty strings) that fits; sizes that are not named in ``sizes`` are 1.

        Raises:
            SignatureError: When a size is negative.
        """
        shape = [s if isinstance(s, int) else sizes.get(s or "", 1) for s in self.shape]
        if any(size < 0 for size in shape):
            raise SignatureError(f"{shape} is no shape of {self}", where=f"input '{self.name}'")
        return np.full(shape, "", object) if self.dtype == object else np.zeros(shape, self.dtype)

    def __str__(self) -> str:
        kind = "string" if self.dtype == object else self.dtype.name
        return f"{self.name}: {kind}[{', '.join('?' if s is None else str(s) for s in self.shape)}]"


class _Size(NamedTuple):
    """What a named size is in a call, and where that was seen first."""

    size: int
    axis: int
    port: str

    @property
    def place(self) -> str:
        return f"axis {self.axis} of '{self.port}'"


class Signature:
    """What a model takes and gives.

    Args:
        session: The model in onnxruntime.
        name: What messages call it.

    Attributes:
        inputs: What it takes.
        outputs: What it gives.
        constraints: What the named sizes of the inputs must keep (``seq <= 512``).
    """

    def __init__(self, session: onnxruntime.InferenceSession, name: str) -> None:
        self._name = name
        self.inputs = tuple(_port(p, name) for p in session.get_inputs())
        self.outputs = tuple(_port(p, name) for p in session.get_outputs())
        self.constraints = _constraints(session, name)
        self._ports = {p.name: p for p in self.inputs}
        self._arithmetic = list(_arithmetic(self.inputs))

    def port(self, name: str) -> Port:
        """An input by its name."""
        return self._ports[name]

    def check(self, arrays: Mapping[str, Any]) -> dict[str, Value]:
        """What to feed, after checks: each has the dtype and shape that the model requires.

        Integers and Python floats in lists take the input's dtype when no number changes; arrays are not cast, and
        onnxruntime's own values stay where they are.

        Raises:
            SignatureError: When a name, dtype or shape does not fit.
        """
        if arrays.keys() != self._ports.keys():
            self._check_names(arrays)
        feed: dict[str, Value] = {}
        sizes: dict[str, _Size] = {}
        for name, port in self._ports.items():
            value = arrays[name]
            if type(value) is not np.ndarray or value.dtype != port.dtype or port.dtype == object:
                value = _as_value(value, port)
            _check_shape(values.shape(value), port, sizes)
            feed[name] = value
        if self._arithmetic or self.constraints:
            self._check_sizes(feed, sizes)
        return feed

    def _check_names(self, arrays: Mapping[str, Any]) -> None:
        for name in arrays:
            if name not in self._ports:
                hint = suggest(name, self._ports) or f"it takes {', '.join(map(str, self.inputs))}"
                raise SignatureError(f"the model has no input '{name}'", where=self._name, hint=hint)
        missing = ", ".join(str(p) for p in self.inputs if p.name not in arrays)
        raise SignatureError(f"no array given for {missing}", where=self._name)

    def _check_sizes(self, feed: Mapping[str, Value], sizes: Mapping[str, _Size]) -> None:
        known = {name: found.size for name, found in sizes.items()}
        for port, axis, due in self._arithmetic:
            if due.names <= known.keys():
                _check_arithmetic(values.shape(feed[port.name]), port, axis, due(known))
        broken = constraints.broken(self.constraints, known)
        if broken is not None:
            given = ", ".join(f"'{n}' is {sizes[n].size}, {sizes[n].place}" for n in sorted(broken.names))
            raise SignatureError(
                f"{given}; the model takes {broken.text}",
                where=self._name,
                hint="for other sizes it was not read: they may give other numbers than the original",
            )


def _constraints(session: onnxruntime.InferenceSession, where: str) -> tuple[constraints.Expression, ...]:
    text = session.get_modelmeta().custom_metadata_map.get(constraints.METADATA_KEY, "[]")
    try:
        found = json.loads(text)
        return tuple(constraints.parse(found if isinstance(found, list) else [found]))
    except (ValueError, RecursionError):
        raise FileError(f"its '{constraints.METADATA_KEY}' is no list of constraints on sizes", where=where) from None


def _port(port: Any, where: str) -> Port:
    kind = values.element(port.type)
    if kind not in values.DTYPES:
        raise SignatureError(f"'{port.name}' is a {port.type}, which cannot be given as an array", where=where)
    return Port(port.name, values.DTYPES[kind], tuple(port.shape))


def _as_value(given: Any, port: Port) -> Value:
    if not isinstance(given, OrtValue):
        return _as_array(given, port)
    found = values.dtype(given)
    if found != port.dtype:
        raise SignatureError(f"the value is {found}, the model takes {port}", where=f"input '{port.name}'")
    return given


def _as_array(given: Any, port: Port) -> np.ndarray:
    is_array = isinstance(given, (np.ndarray, np.generic))
    where = f"input '{port.name}'"
    if np.ma.is_masked(given):
        hint = "array.filled(0) says what stands in their place"
        raise SignatureError(f"elements of the array are masked, the model takes {port}", where=where, hint=hint)
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:  # lists of several lengths, a tensor that is on a device
        what = f"numpy makes no array of it, a {type(given).__name__}: {error}"
        raise SignatureError(f"{what}; the model takes {port}", where=where) from error
    if port.dtype == object:
        if array.dtype.kind in "USTO":
            return _as_text(array, port)
    elif array.dtype == port.dtype:
        return array
    elif not is_array and array.dtype.kind in "biuf":
        with np.errstate(all="ignore"):
            cast = array.astype(port.dtype)
        # numbers of a list have no dtype of their own; those of an integer input must not change
        is_whole = port.dtype.kind in "biu"
        if array.size == 0 or (np.array_equal(cast, array) if is_whole else values.is_in_range(cast, array)):
            return cast
        if not is_whole:
            raise SignatureError(f"a number is out of the range of {port}", where=where)
    raise SignatureError(
        f"the array is {array.dtype}, the model takes {port}",
        where=where,
        hint=None if port.dtype == object else f"array.astype('{port.dtype.name}') would cast it",
    )


def _as_text(array: np.ndarray, port: Port) -> np.ndarray:
    """Strings as Python's; bytes are those of UTF-8. onnxruntime would take the text of any object: ``b'cat'``."""
    elements, where = array.reshape(-1).tolist(), f"input '{port.name}'"
    strange = next((kind for kind in {type(e) for e in elements} if not issubclass(kind, (str, bytes))), None)
    if strange is not None:
        raise SignatureError(f"it holds a {strange.__name__}, the model takes {port}", where=where)
    try:
        texts = [e.decode("utf-8") if isinstance(e, bytes) else e for e in elements]
        "".join(texts).encode("utf-8")  # a surrogate stands for a byte that is no UTF-8
    except UnicodeError:
        raise SignatureError(f"a string is no UTF-8, the model takes {port}", where=where) from None
    found = np.empty(array.shape, object)
    found.reshape(-1)[:] = texts
    return found


def _check_shape(shape: tuple[int, ...], port: Port, sizes: dict[str, _Size]) -> None:
    where = f"input '{port.name}'"
    if len(shape) != len(port.shape):
        raise SignatureError(
            f"the array has {len(shape)} axes, shape {list(shape)}; the model takes {port}", where=where
        )
    for axis, (size, wanted) in enumerate(zip(shape, port.shape, strict=True)):
        if size == wanted:
            continue
        if isinstance(wanted, int):
            raise SignatureError(
                f"axis {axis} is {size}, not {wanted}: shape {list(shape)}, the model takes {port}", where=where
            )
        if isinstance(wanted, str):
            known = sizes.get(wanted)
            if known is None:
                sizes[wanted] = _Size(size, axis, port.name)
            elif known.size != size:
                raise SignatureError(f"'{wanted}' is {size} here, but {known.size} as {known.place}", where=where)


def _check_arithmetic(shape: tuple[int, ...], port: Port, axis: int, due: int) -> None:
    if shape[axis] != due:
        raise SignatureError(
            f"axis {axis} is {shape[axis]}, not {port.shape[axis]} = {due}: shape {list(shape)}, "
            f"the model takes {port}",
            where=f"input '{port.name}'",
        )


def _arithmetic(ports: Sequence[Port]) -> Iterator[tuple[Port, int, constraints.Expression]]:
    """The axes whose sizes are arithmetic on names (``2*n``) of sizes of other axes."""
    for port in ports:
        for axis, size in enumerate(port.shape):
            found = constraints.dimension(size) if isinstance(size, str) else None
            if found is not None:
                yield port, axis, found
