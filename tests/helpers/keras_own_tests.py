"""Keras' own tests, which its package ships, as a source of cases: what they hand to layers and to ``keras.ops``.

The tests are run, and what they call is recorded; whether they pass is nobody's business here.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import io
import sys
import types
import unittest
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras.src import backend
from keras.src.testing import TestCase

SOURCE = Path(keras.src.__file__).parent

#: Parts of ``keras.ops`` whose functions are recorded.
OPS = ("numpy", "nn", "math", "image", "linalg", "core", "einops")


@dataclass
class LayerConfig:
    """What a test hands to ``run_layer_test``.

    Attributes:
        test: ``layers.core.dense_test.DenseTest.test_dense_basics``.
        kind: The layer's class.
        init: Its arguments.
        call: Arguments of the call beyond the first.
        shape: Shape of the input (or a nest of shapes), with the batch.
        dtype: Its dtype, nested likewise.
        data: The input itself, where the test gives one.
    """

    test: str
    kind: type
    init: dict[str, Any]
    call: dict[str, Any]
    shape: Any = None
    dtype: Any = None
    data: Any = None


@dataclass
class OpCall:
    """A call of a function of ``keras.ops`` with numbers.

    Attributes:
        test: The test that makes it.
        name: ``numpy.add``.
        function: The function.
        args: Its arguments; tensors are arrays.
        kwargs: Its keyword arguments, likewise.
        result: What Keras gave, tensors as arrays.
    """

    test: str
    name: str
    function: Callable[..., Any]
    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    result: Any = None


# --- running them ----------------------------------------------------------------------------------------------------


def modules(folder: str) -> list[str]:
    """Names of the modules of tests in a folder of ``keras.src``: ``layers.core.dense_test``."""
    found = sorted((SOURCE / folder).rglob("*_test.py"))
    return [".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in found]


@contextlib.contextmanager
def _conftest() -> Iterator[None]:
    """Stand in for the file that Keras' tests import and its package lacks."""
    stand_in = types.ModuleType("conftest")
    stand_in.skip_if_backend = lambda *_: lambda test: test  # type: ignore[attr-defined]
    before = sys.modules.get("conftest")
    sys.modules["conftest"] = stand_in
    try:
        yield
    finally:
        del sys.modules["conftest"]
        if before is not None:
            sys.modules["conftest"] = before


def tests(module: str, using: str | None = None) -> Iterator[tuple[str, TestCase]]:
    """(name, test) of a module; only those whose code, or that of a helper, has a name ``using`` in it."""
    with _conftest(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded = importlib.import_module(f"keras.src.{module}")
        except ModuleNotFoundError:  # of a package that these tests alone need
            return
    wanted = _methods_with(Path(loaded.__file__ or ""), using) if using else None
    for name, kind in list(vars(loaded).items()):
        own = inspect.isclass(kind) and issubclass(kind, TestCase) and kind.__module__ == loaded.__name__
        for method in unittest.defaultTestLoader.getTestCaseNames(kind) if own else ():
            if wanted is None or any(method.startswith(prefix) for prefix in wanted):
                yield f"{module}.{name}.{method}", kind(method)


def _methods_with(path: Path, using: str) -> set[str]:
    """Names of the functions of a file that use a name, directly or by a helper of the file."""
    functions = [f for f in ast.walk(ast.parse(path.read_text())) if isinstance(f, ast.FunctionDef)]
    uses: dict[str, set[str]] = defaultdict(set)
    for function in functions:  # classes of a file may have methods of one name
        uses[function.name] |= {getattr(n, "attr", getattr(n, "id", "")) for n in ast.walk(function)}
    found: set[str] = set()
    while True:
        more = {name for name, names in uses.items() if names & (found | {using})}
        if more <= found:
            return found
        found |= more


def run(test: TestCase) -> None:
    """Run a test, whatever comes of it, and leave Keras' settings as they were."""
    settings = keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        test.run(unittest.TestResult())
    keras.config.set_floatx(settings[0])
    keras.config.set_image_data_format(settings[1])
    keras.config.set_dtype_policy(settings[2])


# --- layers ----------------------------------------------------------------------------------------------------------


def layer_configs(module: str) -> list[LayerConfig]:
    """What the tests of a module hand to ``run_layer_test``, each once."""
    found: dict[str, LayerConfig] = {}
    current = ""

    def record(
        _: Any, layer_cls: type, init_kwargs: Any = None, input_shape: Any = None, input_dtype: Any = None, **rest: Any
    ) -> None:
        data, call = rest.get("input_data"), rest.get("call_kwargs") or {}
        if input_shape is None and data is None:
            return
        data = None if data is None else keras.tree.map_structure(_dense, data)
        shown = input_shape if data is None else keras.tree.map_structure(lambda x: (x.shape, x.dtype), data)
        key = repr((layer_cls, init_kwargs, shown, input_dtype, call))
        config = LayerConfig(current, layer_cls, init_kwargs or {}, call, input_shape, input_dtype, data)
        found.setdefault(key, config)

    original = TestCase.run_layer_test
    TestCase.run_layer_test = record
    try:
        for current, test in tests(module, using="run_layer_test"):  # noqa: B007
            run(test)
    finally:
        TestCase.run_layer_test = original
    return list(found.values())


def _dense(x: Any) -> Any:
    """An input, a sparse one as the plain tensor that it stands for."""
    if type(x).__name__ in _KINDS:
        return backend.convert_to_numpy(backend.convert_to_tensor(x, sparse=False))
    return x


# --- operations ------------------------------------------------------------------------------------------------------


def op_calls(module: str, chosen: Callable[[str], bool] = lambda test: True) -> list[OpCall]:
    """The calls of ``keras.ops`` with numbers that the tests of a module make themselves."""
    found: list[OpCall] = []
    current, depth = "", 0

    def recording(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                result = function(*args, **kwargs)
            finally:
                depth -= 1
            if depth == 0 and current:
                plain = keras.tree.map_structure(_plain, (args, kwargs))
                tensors = [v for v in keras.tree.flatten(plain) if isinstance(v, np.ndarray)]
                numbers = not any(_is_foreign(v) for v in keras.tree.flatten((args, kwargs, result)))
                wanted = keras.tree.map_structure(_plain, result)
                gives_tensors = all(isinstance(v, np.ndarray) for v in keras.tree.flatten(wanted))
                if tensors and numbers and gives_tensors:
                    found.append(OpCall(current, name, function, *plain, wanted))
            return result

        return call

    with _replaced(recording):
        for current, test in tests(module):
            if chosen(current):
                run(test)
        current = ""
    return found


@contextlib.contextmanager
def _replaced(recording: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Let every module of ``keras.ops`` have the recording function in the place of its own."""
    homes = {f"keras.src.ops.{part}": part for part in OPS}
    namespaces = [
        m for n, m in sys.modules.items() if n.startswith(("keras.src.ops", "keras.ops")) and "_test" not in n
    ]
    wrapped: dict[Any, Any] = {}
    undo = []
    for namespace in namespaces:
        for name, item in list(vars(namespace).items()):
            part = homes.get(getattr(item, "__module__", ""))
            if part is None or not inspect.isfunction(item) or item.__name__.startswith("_"):
                continue
            if item not in wrapped:
                wrapped[item] = recording(f"{part}.{item.__name__}", item)
            undo.append((namespace, name, item))
            setattr(namespace, name, wrapped[item])
    try:
        yield
    finally:
        for namespace, name, item in undo:
            setattr(namespace, name, item)


def _plain(item: Any) -> Any:
    """A tensor as an array (a copy); all else as it is."""
    if isinstance(item, np.ndarray):
        return item.copy()
    if isinstance(item, keras.Variable) or (backend.is_tensor(item) and not _is_foreign(item)):
        return np.array(backend.convert_to_numpy(item))
    return item


def _is_foreign(item: Any) -> bool:
    """Whether it has no numbers, or is no plain tensor: symbolic, sparse, ragged."""
    if isinstance(item, keras.KerasTensor):
        return True
    return type(item).__name__ in _KINDS or (backend.is_tensor(item) and not hasattr(item, "numpy"))


_KINDS = ("SparseTensor", "IndexedSlices", "RaggedTensor")
