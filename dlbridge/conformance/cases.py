"""The node tests of the ONNX standard: lists them, says which are in scope, and runs one."""

from __future__ import annotations

import functools
import math
import signal
import threading
import time
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from dlbridge import frameworks
from dlbridge.conformance import rounding
from dlbridge.errors import UnsupportedOpError
from dlbridge.model import Model
from dlbridge.ops.keys import RANDOM_OPS, is_op, op_key

#: Seconds that one test may take.
TIME_LIMIT = 20
#: Element types that frameworks hardly compute with: of fewer than 8 bits, and 8-bit floats.
NARROW = {d for d in ir.DataType if d >= ir.DataType.FLOAT8E4M3FN}


@dataclass(frozen=True)
class Case:
    """One test: a model, its inputs, and the outputs that it must have."""

    name: str
    proto: onnx.ModelProto
    data: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float

    @property
    def op_types(self) -> set[str]:
        return {op_key(node) for node in self.proto.graph.node}

    @property
    def family(self) -> str:
        """The op that is tested; "composed" for a graph of several."""
        nodes = self.proto.graph.node
        return op_key(nodes[0]) if len(nodes) == 1 else "composed"

    @property
    def narrow(self) -> bool:
        """Whether it uses a type of fewer than 8 bits or an 8-bit float."""
        return any(t in NARROW for t in _types(self.proto))

    def out_of_scope(self) -> str | None:
        """Why the test does not count: it uses another domain or no tensors, or it has no single right answer."""
        if any(node.domain not in ("", "ai.onnx") for node in self.proto.graph.node):
            return "of another domain"
        values = [*self.proto.graph.input, *self.proto.graph.output]
        lists = any(t == "Optional" or "Sequence" in t for t in self.op_types - {"ReverseSequence"})
        if lists or any(not v.type.HasField("tensor_type") for v in values):
            return "of sequences and optionals"
        if ir.DataType.STRING in _types(self.proto) or "StringNormalizer" in self.op_types:
            return "of strings"
        if "ImageDecoder" in self.op_types:
            return "of image files (ImageDecoder)"
        if not self.op_types.isdisjoint(RANDOM_OPS) or (
            self.name.startswith("test_training_dropout") and "zero" not in self.name
        ):
            return "of random numbers"
        return None


@dataclass(frozen=True)
class Result:
    """The result of a test: ``reason`` is None if it passed."""

    name: str
    reason: str | None
    seconds: float
    narrow: bool
    #: Whether it returned numbers that rounding does not explain, without an error: the worst that can happen.
    wrong: bool = False


@functools.cache
def all_node_cases() -> tuple[Case, ...]:
    """All node tests of the installed ONNX."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return tuple(Case(c.name, c.model, c.data_sets, c.rtol, c.atol) for c in found)


@functools.cache
def node_cases() -> tuple[Case, ...]:
    """The node tests that are in scope."""
    return tuple(c for c in all_node_cases() if c.out_of_scope() is None)


#: Folders of whole models that ONNX installs, with what they must return.
_MODEL_FOLDERS = ("simple", "pytorch-converted", "pytorch-operator")


@functools.cache
def model_cases() -> tuple[Case, ...]:
    """The whole models that the installed ONNX brings (those without data are left out) and that are in scope."""
    import onnx.backend.test

    root = Path(onnx.backend.test.__file__).parent / "data"
    found = []
    for file in sorted(path for kind in _MODEL_FOLDERS for path in root.glob(f"{kind}/*/model.onnx")):
        sets = sorted(file.parent.glob("test_data_set_*"))
        data = [(_tensors(folder, "input"), _tensors(folder, "output")) for folder in sets]
        case = Case(file.parent.name, onnx.load(file), data, 1e-3, 1e-7)
        if case.out_of_scope() is None:
            found.append(case)
    return tuple(found)


@functools.cache
def light_cases() -> tuple[Case, ...]:
    """The well-known networks that the installed ONNX brings without weights (constants take their place).

    The input is made as ONNX's own runner makes it: a ramp from 0 to 1.
    """
    import onnx.backend.test

    root = Path(onnx.backend.test.__file__).parent / "data" / "light"
    found = []
    for file in sorted(root.glob("*.onnx")):
        proto = onnx.load(file)
        weights = {i.name for i in proto.graph.initializer}
        (shape,) = (i.type.tensor_type.shape for i in proto.graph.input if i.name not in weights)
        ramp = np.linspace(0, 1, math.prod(d.dim_value for d in shape.dim), endpoint=False, dtype=np.float32)
        expected = onnx.load_tensor(file.with_name(f"{file.stem}_output_0.pb"))
        found.append(
            Case(file.stem, proto, [([ramp.reshape([d.dim_value for d in shape.dim])], [expected])], 1e-3, 1e-7)
        )
    return tuple(found)


def _tensors(folder: Path, kind: str) -> list[onnx.TensorProto]:
    count = len(list(folder.glob(f"{kind}_*.pb")))
    return [onnx.load_tensor(folder / f"{kind}_{i}.pb") for i in range(count)]


def _types(proto: onnx.ModelProto) -> set[ir.DataType]:
    values = [*proto.graph.input, *proto.graph.output]
    types = {v.type.tensor_type.elem_type for v in values if v.type.HasField("tensor_type")}
    for node in proto.graph.node:
        types |= {a.i for a in node.attribute if is_op(node, "Cast", "BitCast") and a.name == "to"}
    return {ir.DataType(t) for t in types}


def run_case(case: Case, framework: str) -> Result:
    """Write a test's model, run it, and compare values, dtypes and shapes."""
    _start(framework)
    start = time.perf_counter()
    wrong, outputs = False, []
    try:
        with _limit(TIME_LIMIT), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = [list(o) for o in run(read(case.proto), framework, [i for i, _ in case.data])]
        for given, (_, expected) in zip(outputs, case.data, strict=True):
            compare(given, expected, case.rtol, case.atol)
        reason = None
    except Exception as error:  # a test that breaks in any way is a failed test, told with its reason
        reason = f"{type(error).__name__}: {error}"
        if outputs:
            rounded = rounding.explains(case, outputs)
            wrong, reason = rounded is None, rounded or reason
    return Result(case.name, _short(reason), time.perf_counter() - start, case.narrow, wrong)


@functools.cache
def _start(framework: str) -> None:
    """Import a framework and run one node in it. That may take longer than a test may, and an interrupted import breaks
    all further tests."""
    x = onnx.helper.make_tensor_value_info("x", 1, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "start", [x], [x])
    graph.output[0].name = "y"
    with suppress(UnsupportedOpError):  # the attempt has imported the framework
        list(run(read(onnx.helper.make_model(graph)), framework, [[np.zeros(1, np.float32)]]))


def read(proto: onnx.ModelProto) -> Model:
    """A test's model in the neutral form."""
    return frameworks.get("onnx").read(proto)


def run(model: Model, framework: str, inputs: list[list[Any]]) -> Iterator[list[np.ndarray]]:
    """Write and load a model, and run it on each list of inputs."""
    made = frameworks.get(framework)
    live = made.load(made.write(model))
    names = [v.name or "" for v in model.inputs]
    for arrays in inputs:
        given = {n: array(a) for n, a in zip(names, arrays, strict=True)}
        yield list(made.run(live, given).values())


def array(data: Any) -> np.ndarray:
    """The array of a test's input or output, which is an array, a number or a tensor proto."""
    return onnx.numpy_helper.to_array(data) if isinstance(data, onnx.TensorProto) else np.asarray(data)


def compare(given: list[np.ndarray], expected: list[Any], rtol: float, atol: float) -> None:
    """Raise when numbers, dtypes or shapes differ.

    Raises:
        AssertionError: What differs.
    """
    assert len(given) == len(expected), f"{len(given)} outputs, {len(expected)} expected"
    for index, (got, right) in enumerate(zip(given, map(array, expected), strict=True)):
        assert got.dtype == right.dtype, f"output {index}: dtype {got.dtype}, {right.dtype} expected"
        assert got.shape == right.shape, f"output {index}: shape {got.shape}, {right.shape} expected"
        # As in ONNX's own runner: two units in the last place of bfloat16.
        limit = max(rtol, 2**-6) if right.dtype.name == "bfloat16" else rtol
        if type(right.dtype.type(0)).__module__ == "ml_dtypes":
            got, right = got.astype(np.float32), right.astype(np.float32)
        np.testing.assert_allclose(got, right, limit, atol, err_msg=f"output {index}")


def _short(reason: str | None) -> str | None:
    return None if reason is None else " | ".join(line.strip() for line in reason.splitlines() if line.strip())[:400]


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    """Interrupt the block after some seconds (only in the main thread, where signals arrive)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: types.FrameType | None) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(math.ceil(seconds))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
