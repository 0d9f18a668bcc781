"""Control flow in Keras: branches and loops of ``keras.ops`` in a layer's code, recurrent layers with any cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import dlbridge
from dlbridge import frameworks
from dlbridge.verification.compare import relative_error


class Code(L.Layer):
    """A layer of the code that it is given; two dense layers stand ready for it."""

    def __init__(self, code: Callable[..., Any], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.code = code
        self.a, self.b = L.Dense(4), L.Dense(4, activation="relu")

    def build(self, shape: Any) -> None:
        self.a.build(shape)
        self.b.build(shape)

    def call(self, x: Any) -> Any:
        return self.code(self, x)


def _dense(s: Code, x: Any) -> Any:
    h = ops.tanh(x)
    return ops.cond(ops.mean(x) > 0, lambda: s.a(h), lambda: s.b(h) + ops.mean(x))


def _until(s: Code, x: Any) -> Any:
    first = (ops.cast(ops.sum(x) * 0, "int32"), x)
    count, y = ops.while_loop(
        lambda i, v: ops.sum(ops.abs(v)) < 100, lambda i, v: (i + 1, v * 1.5 + ops.sign(v)), first
    )
    return y + ops.cast(count, "float32")


def _running(s: Code, x: Any, **options: Any) -> Any:
    steps = ops.transpose(x, (1, 0, 2))
    last, all_of_them = ops.scan(lambda c, e: (c * 0.5 + e, c + e * 2), ops.zeros_like(steps[0]), steps, **options)
    return ops.transpose(all_of_them, (1, 0, 2)) + ops.expand_dims(last, 1)


def _nested(s: Code, x: Any) -> Any:
    def step(i: Any, v: Any) -> Any:
        return ops.cond(ops.sum(v) > 0, lambda: v - 1.0, lambda: v * 0.5 + ops.cast(i, "float32"))

    return ops.fori_loop(0, 3, step, x)


BRANCHES = [lambda v: v + 1, lambda v: v * 2, lambda v: ops.exp(v)]
CODE: dict[str, tuple[Callable[..., Any], tuple[int | None, ...]]] = {
    "cond": (lambda s, x: ops.cond(ops.sum(x) > 0, lambda: x * 2, lambda: x - 1), (4,)),
    "cond of layers": (_dense, (4,)),
    "switch": (lambda s, x: ops.switch(ops.cast(ops.sum(ops.abs(x)), "int32") % 3, BRANCHES, x), (4,)),
    "switch beyond the last": (lambda s, x: ops.switch(ops.cast(ops.sum(x) * 0, "int32") + 9, BRANCHES, x), (4,)),
    "while_loop": (_until, (4,)),
    "while_loop with a limit": (
        lambda s, x: ops.while_loop(lambda v: ops.any(v < 1e9), lambda v: (v * 1.5,), (x,), maximum_iterations=4)[0],
        (4,),
    ),
    "fori_loop": (
        lambda s, x: ops.fori_loop(1, 5, lambda i, v: v + ops.cast(i, "float32") * ops.sin(v), x),
        (4,),
    ),
    "fori_loop of a layer": (lambda s, x: ops.fori_loop(0, 3, lambda i, v: v + ops.tanh(s.a(v)), x), (4,)),
    "scan": (_running, (None, 4)),
    "scan backwards": (lambda s, x: _running(s, x, reverse=True), (None, 4)),
    "map": (lambda s, x: ops.map(lambda r: r / (ops.max(ops.abs(r)) + 1), x), (4, 3)),
    "vectorized_map": (lambda s, x: ops.vectorized_map(lambda r: ops.matmul(r, ops.transpose(r)), x), (4, 3)),
    "a branch in a loop": (_nested, (4,)),
}


def _agree(model: keras.Model, *shape: int, masked: bool = False) -> None:
    rng = np.random.default_rng(0)
    read = dlbridge.load(model)
    for sign in (1, -1):  # one of two branches
        x = np.float32(sign * (rng.normal(size=shape) + 0.3))
        if masked:
            x[0, :2] = x[1, 3:] = 0
        wanted = [np.asarray(v) for v in keras.tree.flatten(model(x, training=False))]
        for name in ("onnx", "pytorch", "keras"):
            framework = frameworks.get(name)
            found = framework.run(framework.load(framework.write(read)), {read.inputs[0].name: x})
            for got, right in zip(found.values(), wanted, strict=True):
                assert got.dtype == right.dtype
                assert relative_error(got, right) < 2e-6, name


@pytest.mark.parametrize("case", CODE)
def test_code_with_branches_and_loops(case: str) -> None:
    keras.utils.set_random_seed(0)
    code, shape = CODE[case]
    x = keras.Input(shape)
    _agree(keras.Model(x, Code(code)(x)), 3, *(5 if size is None else size for size in shape))


@keras.saving.register_keras_serializable("test_reads_keras_control")
class Cell(L.Layer):
    """A cell of the user's own."""

    def __init__(self, units: int, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.units = self.state_size = self.output_size = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, self.units), name="recurrent")

    def call(self, x: Any, states: Any) -> Any:
        h = ops.tanh(ops.matmul(x, self.kernel) + ops.matmul(states[0], self.recurrent))
        return h, [h]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


LAYERS: dict[str, tuple[Callable[[], Any], tuple[int | None, ...]]] = {
    "a cell": (lambda: L.RNN(Cell(5), return_sequences=True), (None, 3)),
    "backwards": (lambda: L.RNN(Cell(5), return_state=True, go_backwards=True), (None, 3)),
    "both ways": (lambda: L.Bidirectional(L.RNN(Cell(5), return_sequences=True)), (None, 3)),
    "zeros where masked": (lambda: L.RNN(Cell(5), return_sequences=True, zero_output_for_mask=True), (None, 3)),
    "stacked": (lambda: L.RNN([L.LSTMCell(4), Cell(5)], return_sequences=True, return_state=True), (None, 3)),
    "a known length": (lambda: L.RNN(Cell(5), return_sequences=True), (7, 3)),
    "unrolled": (lambda: L.RNN(Cell(5), return_sequences=True, unroll=True), (7, 3)),
    "ConvLSTM1D": (lambda: L.ConvLSTM1D(3, 3, padding="same", return_sequences=True), (None, 6, 2)),
    "ConvLSTM2D": (lambda: L.ConvLSTM2D(3, 3, strides=2, return_state=True), (None, 6, 6, 2)),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", LAYERS)
def test_cells_over_sequences_of_any_length(case: str, masked: bool) -> None:
    make, shape = LAYERS[case]
    if masked and len(shape) > 2:
        pytest.skip("Masking masks steps of vectors")
    keras.utils.set_random_seed(0)
    x = keras.Input(shape)
    model = keras.Model(x, make()(L.Masking()(x) if masked else x))
    _agree(model, 2, *(7 if size is None else size for size in shape), masked=masked)


def _by_size(_: Code, x: Any) -> Any:
    return ops.cond(ops.sum(x) > 0, lambda: x * ops.cast(ops.shape(x)[0], "float32"), lambda: x)


def _by_size_in_two(s: Code, x: Any) -> Any:
    return ops.cond(ops.sum(x) > 0, lambda: ops.cond(ops.max(x) > 1, lambda: _by_size(s, x), lambda: x), lambda: x)


def _by_number(_: Code, x: Any) -> Any:
    count = ops.cast(ops.shape(x)[0], "float32")
    return ops.cond(ops.sum(x) > 0, lambda: x * count, lambda: x)


@pytest.mark.parametrize("code", [_by_size, _by_size_in_two, _by_number])
def test_a_size_that_becomes_a_number_in_a_body_is_read(code: Callable[..., Any]) -> None:
    x = keras.Input((4,))
    model = keras.Model(x, Code(code)(x))
    for rows in (2, 5):
        _agree(model, rows, 4)
