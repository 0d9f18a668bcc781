"""Sizes that are not known, as numbers that code computes with and as arguments of operations."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from dlbridge import frameworks
from dlbridge.errors import DlbridgeWarning, UnsupportedOpError
from dlbridge.frameworks.keras.graph.building import Builder
from dlbridge.frameworks.keras.tracing.size_questions import UnknownSizeError
from dlbridge.ops import traits
from dlbridge.passes.sizes import Size
from tests.helpers.keras_reading import error

read = frameworks.get("keras").read


class Made(keras.Model):
    def __init__(self, function):
        super().__init__(name="made")
        self.function = function

    def call(self, x):
        return self.function(x, x.shape[1])


#: Of a tensor (batch, n, 4) and of n.
USES = {
    "rolled by a half": lambda x, n: ops.roll(x, n // 2, axis=1),
    "rolled back": lambda x, n: ops.roll(x, -n // 3, axis=1),
    "rolled by more than there are": lambda x, n: ops.roll(x, (5, -9), axis=(1, 2)),
    "rolled as a row": lambda x, n: ops.roll(x, 3 * n),
    "the middle": lambda x, n: x[:, n // 2],
    "the last one": lambda x, n: ops.take(x, n - 1, axis=1),
    "classes": lambda x, n: ops.one_hot(ops.argmax(x, axis=1), n),
    "a causal mask": lambda x, n: ops.matmul(ops.tri(n), x),
    "a triangle beside the diagonal": lambda x, n: ops.matmul(ops.tri(3, n, k=n - 3), x),
    "an identity": lambda x, n: ops.matmul(ops.eye(n, k=-1), x) + ops.matmul(ops.identity(n), x),
    "numbers at equal distances": lambda x, n: x * ops.linspace(-1.0, 2.0, n)[None, :, None],
    "numbers that fall": lambda x, n: x * ops.cast(ops.arange(n - 1, -1, -1), "float32")[None, :, None],
    "where it is early": lambda x, n: ops.where(ops.arange(n)[:, None] < n // 2, x, -x),
    "a rest": lambda x, n: x * (100 % n) + x * (-n % 3),
    "a quotient and a rest": lambda x, n: x * sum(divmod(n, 3)) + x * sum(divmod(20, n)),
    "bits": lambda x, n: x * (n & 3) + x * (n >> 1) + x * (n << 2),
    "a power": lambda x, n: x * n**2,
    "a loop": lambda x, n: ops.fori_loop(0, n, lambda i, a: a + ops.cast(i, "float32") * x[:, 0], x[:, 0]),
}


@pytest.mark.parametrize("name", USES)
def test_a_size_is_what_it_is_at_run_time(name):
    model = Made(USES[name])
    model(np.zeros((2, 5, 4), np.float32))
    found = read(model, inputs={"x": "float32[batch,n,4]"})
    for target in ("onnx", "keras") if name == "a loop" else ("onnx",):
        live = frameworks.get(target).load(found.write(target))
        for batch, n in ((2, 5), (1, 8), (3, 2), (2, 1)):
            x = np.random.default_rng(n).normal(size=(batch, n, 4)).astype(np.float32)
            (made,) = frameworks.get(target).run(live, {"x": x}).values()
            assert error(made, keras.ops.convert_to_numpy(model(x))) <= 1e-5, (target, n)


@pytest.mark.parametrize("function", [lambda x, n: x * (n | 1), lambda x, n: x * 2**n, lambda x, n: x * (n ^ 3)])
def test_a_number_that_cannot_be_followed_is_refused(function):
    model = Made(function)
    model(np.zeros((2, 5, 4), np.float32))
    with pytest.raises(UnsupportedOpError, match=r"of the size 'n'|by the size 'n'"):
        read(model, inputs={"x": "float32[batch,n,4]"})


def test_a_constant_is_never_made_of_a_prime():
    """Whatever a rule forgets of a size, the number that stands for it is not a constant of the graph."""
    build = Builder("made")
    size = build.sizes.symbolic(Size.of("n + 1"))
    with pytest.raises(UnknownSizeError, match="a constant of a size"):
        build.constant(np.asarray([0.0, float(int(size))]))
    assert build.constant(np.asarray([0.0, 512.0])).is_initializer()


def test_an_axis_that_squeeze_takes_away_for_some_sizes_alone_is_told():
    given = keras.Input((3, 1), name="x")
    net = keras.Model(given, keras.layers.Dense(2)(ops.squeeze(given)))
    with pytest.warns(DlbridgeWarning, match="squeeze takes the axis 'batch' away too where it is 1"):
        model = read(net)
    assert [c.text for c in traits.constraints(model.graph)] == ["batch >= 2"]


def test_squeeze_of_axes_by_their_numbers_is_right_for_all_sizes(recwarn):
    given = keras.Input((3, 1), name="x")
    model = read(keras.Model(given, ops.squeeze(given, -1)))
    assert not [w for w in recwarn if issubclass(w.category, DlbridgeWarning)]
    assert not traits.constraints(model.graph)
