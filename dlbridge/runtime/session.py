"""``Session``: a loaded model, called with numpy arrays that are checked against its signature."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from dlbridge import constraints
from dlbridge.errors import FileError, ProviderError, SignatureError, suggest
from dlbridge.repository.layout import find_model
from dlbridge.runtime import values

#: Short names of execution providers.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "dml": "DmlExecutionProvider",
    "qnn": "QNNExecutionProvider",
}


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


class Result(Mapping[str, np.ndarray]):
    """The outputs of one call: ``result["logits"]``, ``result.logits``, ``result[0]``; unpacks as a mapping does."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = dict(arrays)

    def __getitem__(self, key: str | int) -> np.ndarray:
        return list(self._arrays.values())[key] if isinstance(key, int) else self._arrays[key]

    def __getattr__(self, name: str) -> np.ndarray:
        arrays = self.__dict__.get("_arrays", {})
        if name not in arrays:
            raise AttributeError(f"no output '{name}'; there is {', '.join(arrays)}")
        return arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Result({', '.join(f'{n}: {a.dtype}{list(a.shape)}' for n, a in self._arrays.items())})"


class Session:
    """A model in onnxruntime. Made by :func:`load`; safe to call from several threads.

    Attributes:
        name: Where it was loaded from.
        inputs: What it takes.
        outputs: What it gives.
        constraints: What the named sizes of the inputs must keep (``seq <= 512``).
        providers: The execution providers in use, by their full names.
    """

    def __init__(self, session: onnxruntime.InferenceSession, name: str) -> None:
        self._run = values.runner(session)
        self.name = name
        self.inputs = tuple(_port(p, name) for p in session.get_inputs())
        self.outputs = tuple(_port(p, name) for p in session.get_outputs())
        self.constraints = _constraints(session, name)
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self._ports = {p.name: p for p in self.inputs}
        self._results = [p.name for p in self.outputs]
        self._arithmetic = list(_arithmetic(self.inputs))

    def __call__(self, /, *arrays: Any, **named: Any) -> Result:
        """Run the model.

        Args:
            *arrays: The inputs in order, as arrays or what ``numpy.asarray`` takes, ...
            **named: ... and by name. A name that is no Python name goes into ``session(**{"my.input": x})``.

        Raises:
            SignatureError: When a name, dtype or shape does not fit; sizes of one name must be equal.
        """
        return Result(self.run(self._by_name(arrays, named)))

    def run(self, arrays: Mapping[str, Any], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Run the model on arrays by name.

        Args:
            arrays: Input name -> array.
            outputs: Names of the outputs that are wanted; all when None.

        Raises:
            SignatureError: When a name, dtype or shape does not fit.
        """
        feed = self.check(arrays)
        names = self._results if outputs is None else list(outputs)
        try:
            found = self._run(names, feed)
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            shapes = ", ".join(f"{n}: {a.dtype}{list(a.shape)}" for n, a in feed.items())
            raise SignatureError(f"onnxruntime could not run it on ({shapes}): {error}", where=self.name) from error
        return dict(zip(names, found, strict=True))

    def check(self, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The arrays to feed, after checks: each has the dtype and shape that the model requires.

        Integers and Python floats in lists take the input's dtype when no number changes; arrays are not cast.

        Raises:
            SignatureError: When a name, dtype or shape does not fit.
        """
        if arrays.keys() != self._ports.keys():
            self._check_names(arrays)
        feed: dict[str, np.ndarray] = {}
        sizes: dict[str, _Size] = {}
        for name, port in self._ports.items():
            array = arrays[name]
            if type(array) is not np.ndarray or array.dtype != port.dtype:
                array = _as_array(array, port)
            _check_shape(array, port, sizes)
            feed[name] = array
        if self._arithmetic or self.constraints:
            self._check_sizes(feed, sizes)
        return feed

    def _check_names(self, arrays: Mapping[str, Any]) -> None:
        for name in arrays:
            if name not in self._ports:
                hint = suggest(name, self._ports) or f"it takes {', '.join(map(str, self.inputs))}"
                raise SignatureError(f"the model has no input '{name}'", where=self.name, hint=hint)
        missing = ", ".join(str(p) for p in self.inputs if p.name not in arrays)
        raise SignatureError(f"no array given for {missing}", where=self.name)

    def _check_sizes(self, feed: Mapping[str, np.ndarray], sizes: Mapping[str, _Size]) -> None:
        known = {name: found.size for name, found in sizes.items()}
        for port, axis, due in self._arithmetic:
            if due.names <= known.keys():
                _check_arithmetic(feed[port.name], port, axis, due(known))
        broken = constraints.broken(self.constraints, known)
        if broken is not None:
            given = ", ".join(f"'{n}' is {sizes[n].size}, {sizes[n].place}" for n in sorted(broken.names))
            raise SignatureError(
                f"{given}; the model takes {broken.text}",
                where=self.name,
                hint="for other sizes it was not read: they may give other numbers than the original",
            )

    def _by_name(self, arrays: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        if len(arrays) > len(self.inputs):
            raise SignatureError(
                f"{len(arrays)} arrays given, the model has {len(self.inputs)} inputs", where=self.name
            )
        given = {p.name: a for p, a in zip(self.inputs, arrays, strict=False)}
        twice = [n for n in given if n in named]
        if twice:
            raise SignatureError(f"input '{twice[0]}' is given twice, by position and by name", where=self.name)
        return {**given, **named}

    def __repr__(self) -> str:
        return f"<Session {self.name} ({', '.join(map(str, self.inputs))}) -> ({', '.join(map(str, self.outputs))})>"


def load(
    path: str | os.PathLike[str],
    providers: str | Sequence[str] = ("cpu",),
    *,
    version: int | None = None,
    threads: int | None = None,
    spinning: bool = True,
) -> Session:
    """Load a repository entry or an ``.onnx`` file.

    Args:
        path: An entry (``models/digits``) or a file.
        providers: Execution providers, the preferred first: ``cpu``, ``cuda``, ``cuda:1`` (a device), or
            onnxruntime's full names. Nodes that the first cannot run go to the next, and to the CPU at last.
        version: Which version of an entry; the newest when None.
        threads: Threads for one op; as many as there are cores when None.
        spinning: Whether threads that wait for work keep their cores busy. It is quicker on a machine that does nothing
            else, and slower on one that is shared.

    Raises:
        FileError: When the file is missing, or onnxruntime cannot load it.
        ProviderError: When a provider is not in this onnxruntime, or cannot be started: there is no silent fall-back.
    """
    file = find_model(path, version)
    asked = [_provider(p) for p in ([providers] if isinstance(providers, str) else providers)]
    if not asked:
        raise ProviderError("no execution provider is named", hint="'cpu' is always there")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4 if asked == [("CPUExecutionProvider", {})] else 3
    if threads is not None:
        options.intra_op_num_threads = threads
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=asked)
    except Exception as error:  # onnxruntime's exceptions have no base class of their own
        raise _load_error(error, asked, str(file)) from error
    dropped = [name for name, _ in asked if name not in session.get_providers()]
    if dropped:
        raise ProviderError(
            f"{', '.join(dropped)} could not be started; onnxruntime would have run on "
            f"{', '.join(session.get_providers())} without a word",
            where=str(path),
            hint="are the driver and the libraries of the provider installed, and is there a device?",
        )
    return Session(session, str(path))


def _load_error(error: Exception, asked: list[tuple[str, dict[str, str]]], where: str) -> FileError | ProviderError:
    text = str(error)
    for name, _ in asked:
        if name != "CPUExecutionProvider" and (name in text or "provider" in text.lower()):
            return ProviderError(f"{name} could not be started: {text}", where=where)
    return FileError(f"onnxruntime cannot load the model: {text}", where=where)


def _provider(name: str) -> tuple[str, dict[str, str]]:
    """(full name, options) of a provider that a user named.

    Raises:
        ProviderError: When this onnxruntime does not have it.
    """
    short, _, device = name.partition(":")
    full = PROVIDERS.get(short.lower(), short)
    available = onnxruntime.get_available_providers()
    if full not in available:
        known = {v: k for k, v in PROVIDERS.items()}
        there = ", ".join(known.get(p, p) for p in available)
        cuda = "pip install onnxruntime-gpu in the place of onnxruntime" if "cuda" in short.lower() else None
        raise ProviderError(
            f"execution provider '{name}' is not in this onnxruntime; there is {there}",
            hint=cuda or (None if short.lower() in PROVIDERS else suggest(short, PROVIDERS)),
        )
    if device and not device.isdigit():
        raise ProviderError(f"'{device}' is no device number", where=name, hint="for instance cuda:0")
    return full, ({"device_id": device} if device else {})


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


def _as_array(given: Any, port: Port) -> np.ndarray:
    is_array = isinstance(given, (np.ndarray, np.generic))
    array = np.asarray(given)
    if array.dtype == port.dtype:
        return array
    if port.dtype == object:
        if array.dtype.kind in "UTO":
            return array.astype(object)
    elif not is_array and array.dtype.kind in "biuf":
        cast = array.astype(port.dtype)
        # numbers of a list have no dtype of their own; those of an integer input must not change
        if port.dtype.kind not in "biu" or (array.size == 0 or np.array_equal(cast, array)):
            return cast
    raise SignatureError(
        f"the array is {array.dtype}, the model takes {port}",
        where=f"input '{port.name}'",
        hint=None if port.dtype == object else f"array.astype('{port.dtype.name}') would cast it",
    )


def _check_shape(array: np.ndarray, port: Port, sizes: dict[str, _Size]) -> None:
    where = f"input '{port.name}'"
    if array.ndim != len(port.shape):
        raise SignatureError(
            f"the array has {array.ndim} axes, shape {list(array.shape)}; the model takes {port}", where=where
        )
    for axis, (size, wanted) in enumerate(zip(array.shape, port.shape, strict=True)):
        if size == wanted:
            continue
        if isinstance(wanted, int):
            raise SignatureError(
                f"axis {axis} is {size}, not {wanted}: shape {list(array.shape)}, the model takes {port}", where=where
            )
        if isinstance(wanted, str):
            known = sizes.get(wanted)
            if known is None:
                sizes[wanted] = _Size(size, axis, port.name)
            elif known.size != size:
                raise SignatureError(f"'{wanted}' is {size} here, but {known.size} as {known.place}", where=where)


def _check_arithmetic(array: np.ndarray, port: Port, axis: int, due: int) -> None:
    if array.shape[axis] != due:
        raise SignatureError(
            f"axis {axis} is {array.shape[axis]}, not {port.shape[axis]} = {due}: shape {list(array.shape)}, "
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
