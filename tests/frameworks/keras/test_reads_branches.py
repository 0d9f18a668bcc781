"""Code that asks how large a size is: both ways are tried, and a model that does either is not read as one."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from dlbridge import frameworks
from dlbridge.errors import SignatureError, UnsupportedOpError
from dlbridge.ops import traits
from tests.helpers.keras_reading import error

read = frameworks.get("keras").read
ONNX = frameworks.get("onnx")


class Made(keras.Model):
    def __init__(self, function):
        super().__init__(name="made")
        self.function = function

    def call(self, x):
        return self.function(x)


def drops_the_odd_one(x):
    if x.shape[1] % 2 == 1:
        x = x[:, :-1]
    return x * 2


def one_is_another(x):
    return x * 3 if x.shape[1] == 1 else x * 2


def long_is_another(x):
    return x * 3 if x.shape[1] > 100 else x * 2


def pads(x):
    missing = -x.shape[1] % 4
    if missing:
        x = ops.pad(x, [[0, 0], [0, missing], [0, 0]])
    return x * 2


def cuts(x):
    return x[:, : min(x.shape[1], 5)]


def raises(x):
    if x.shape[1] > 6:
        raise ValueError("too long")
    return x * 2


def in_windows(x):
    assert x.shape[1] % 4 == 0, "no multiple of the window"
    return ops.max(ops.reshape(x, (-1, x.shape[1] // 4, 4, 2)), 2)


def of(function, size="t", length=8):
    model = Made(function)
    model(np.zeros((2, length, 2), np.float32))
    return model, read(model, inputs={"x": f"float32[batch,{size},2]"})


def check(model, found, lengths):
    live = ONNX.load(found.write("onnx"))
    for length in lengths:
        x = np.random.default_rng(length).normal(size=(2, length, 2)).astype(np.float32)
        (y,) = ONNX.run(live, {"x": x}).values()
        assert error(y, keras.ops.convert_to_numpy(model(x))) <= 1e-6


@pytest.mark.parametrize(
    ("function", "condition"),
    [(drops_the_odd_one, "t % 2 != 1"), (one_is_another, "t != 1"), (long_is_another, "t > 100")],
)
def test_code_that_takes_another_way_for_some_sizes_is_refused_with_its_line(function, condition):
    with pytest.raises(UnsupportedOpError, match=f"{condition.split()[0]}.*{condition}") as caught:
        of(function)
    assert "test_reads_branches.py:" in str(caught.value) and ".shape[1]" in str(caught.value)


@pytest.mark.parametrize("function", [pads, cuts])
def test_ways_that_come_to_the_same_are_one(function):
    model, found = of(function)
    assert not traits.constraints(found.graph)
    check(model, found, (1, 4, 5, 7, 12))


def test_sizes_at_which_code_raises_are_a_constraint():
    model, found = of(raises, length=4)
    assert [c.text for c in traits.constraints(found.graph)] == ["t <= 6"]
    check(model, found, (1, 6))


@pytest.mark.parametrize(
    ("function", "size", "lengths"),
    [
        (drops_the_odd_one, "2*t", (2, 6)),
        (one_is_another, "2<=t", (2, 5)),
        (long_is_another, "100<t", (101,)),
        (long_is_another, "t<=100", (1, 100)),
        (in_windows, "4*t", (4, 12)),
    ],
)
def test_sizes_that_are_stated_settle_it(function, size, lengths):
    check(*of(function, size), lengths)


def test_a_bound_without_a_number_is_refused():
    with pytest.raises(SignatureError, match="is no size"):
        of(pads, "t<=")


def test_code_that_raises_where_sizes_are_free_is_refused_with_what_it_asked():
    with pytest.raises(UnsupportedOpError, match=r"asked whether t % 4 == 0 .*32\*n"):
        of(in_windows)


class Longer(keras.layers.Layer):
    def call(self, x):
        return x * 3 if ops.shape(x)[1] > 4 else x * 2

    def compute_output_shape(self, shape):
        return shape


def test_tensorflow_reads_both_ways_of_a_layer():
    x = keras.Input((None, 2), name="x")
    model = keras.Model(x, Longer()(x))
    found = read(model)
    assert not traits.constraints(found.graph)
    check(model, found, (1, 4, 5, 9))
