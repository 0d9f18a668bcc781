"""Python's operators in the code of layers: those of the backend's tensors, which differ from symbolic ones."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from dlbridge import frameworks
from tests.helpers.keras_reading import error

read = frameworks.get("keras").read
ONNX = frameworks.get("onnx")

#: Of two tensors.
OPERATORS = {
    "equal": lambda a, b: a == b,
    "equal to a number": lambda a, b: ops.where(a == 2, 0, b),
    "not equal": lambda a, b: a != b,
    "and": lambda a, b: a & b,
    "and with a number": lambda a, b: 6 & a,
    "or": lambda a, b: a | 1,
    "exclusive or": lambda a, b: a ^ b,
    "not": lambda a, b: ~a,
    "not of truth": lambda a, b: ~(a > b) & (b > 0) | (a == b),
    "product with truth": lambda a, b: (a > b) * a,
    "truth on the right": lambda a, b: a * (a > b),
    "quotient": lambda a, b: a / b,
    "quotient of large numbers": lambda a, b: ((a + 16777217) / 3 - 5592405.0) * 3,
    "trace of small numbers": lambda a, b: ops.trace(ops.cast(ops.stack([a + 100] * 4), "int8"), 0, 0, 2),
    "an array on the left": lambda a, b: np.array([1, -2, 3, 4], np.int32) * a,
    "an array is equal": lambda a, b: np.array([1, -2, 3, 4], np.int32) == a,
    "none": lambda a, b: a if (a == None) is False and a != None else b,  # noqa: E711
}


class Made(layers.Layer):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, a, b):
        return self.function(a, b)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_is_that_of_the_backend(name):
    a, b = (keras.Input((4,), dtype="int32", name=n) for n in "ab")
    model = keras.Model([a, b], Made(OPERATORS[name])(a, b))
    data = {"a": np.array([[2, -5, 3, 0]], np.int32), "b": np.array([[2, 3, -3, 7]], np.int32)}
    wanted = keras.ops.convert_to_numpy(model(list(data.values())))
    found = read(model)
    made = ONNX.run(ONNX.load(found.write("onnx")), data)[found.outputs[0].name]
    assert error(made, wanted) <= 1e-12
