"""Initial weights: each initialiser has the moments that its formula says, and a stream of its own."""

import math

import numpy as np
import pytest

from dlbridge.errors import DescriptionError
from dlbridge.ops import initializers

SHAPE = (200, 100, 3, 3)  # out, in, kernel
FAN_IN, FAN_OUT = 900, 1800


def make(spec, shape=SHAPE, name="layer.weight", seed=0):
    return initializers.make(initializers.check(spec), name, shape, seed)


@pytest.mark.parametrize(
    ("spec", "mean", "variance", "limit"),
    [
        ("uniform", 0, 0.1**2 / 12, 0.05),
        ({"kind": "uniform", "minimum": 1, "maximum": 3}, 2, 4 / 12, 3),
        ("normal", 0, 0.05**2, None),
        ({"kind": "normal", "mean": 1, "stddev": 0.5}, 1, 0.25, None),
        ("truncated_normal", 0, (0.05 * 0.87962566) ** 2, 0.1),
        ("glorot_uniform", 0, 2 / (FAN_IN + FAN_OUT), math.sqrt(6 / (FAN_IN + FAN_OUT))),
        ({"kind": "xavier_uniform", "gain": 2}, 0, 8 / (FAN_IN + FAN_OUT), 2 * math.sqrt(6 / (FAN_IN + FAN_OUT))),
        ("glorot_normal", 0, 2 / (FAN_IN + FAN_OUT), None),
        ("he_uniform", 0, 2 / FAN_IN, math.sqrt(6 / FAN_IN)),
        ({"kind": "kaiming_uniform", "slope": math.sqrt(5)}, 0, 1 / (3 * FAN_IN), 1 / math.sqrt(FAN_IN)),
        ("he_normal", 0, 2 / FAN_IN, None),
        ("lecun_uniform", 0, 1 / FAN_IN, math.sqrt(3 / FAN_IN)),
        ("lecun_normal", 0, 1 / FAN_IN, 2 / math.sqrt(FAN_IN) / 0.87962566),
        ({"kind": "variance_scaling", "scale": 3}, 0, 3 / FAN_IN, 2 * math.sqrt(3 / FAN_IN) / 0.87962566),
        ({"kind": "he_normal", "fan_in": 50}, 0, 2 / 50, None),
    ],
)
def test_moments(spec, mean, variance, limit):
    array = make(spec)
    assert array.shape == SHAPE
    assert array.dtype == np.float64
    deviation = math.sqrt(variance / array.size)
    assert abs(array.mean() - mean) < 5 * deviation
    assert abs(array.var() / variance - 1) < 0.02
    if limit is not None:
        assert 0.99 * limit < np.abs(array).max() <= limit * (1 + 1e-12)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (8, 4, 3, 3)])
def test_orthogonal(shape):
    matrix = make({"kind": "orthogonal", "gain": 2}, shape).reshape(shape[0], -1) / 2
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    assert np.allclose(product, np.eye(len(product)), atol=1e-12)


def test_constants():
    assert (make("zeros", (3,)) == 0).all()
    assert (make("ones", (3,)) == 1).all()
    assert (make({"kind": "constant", "value": 0.25}, (3, 2)) == 0.25).all()
    assert (make({"kind": "identity", "gain": 3}, (2, 3)) == [[3, 0, 0], [0, 3, 0]]).all()


def test_dirac_returns_its_input():
    kernel = make("dirac", (2, 2, 3))
    x = np.arange(10.0).reshape(2, 5)
    padded = np.pad(x, ((0, 0), (1, 1)))
    y = np.array([[(kernel[o] * padded[:, t : t + 3]).sum() for t in range(5)] for o in range(2)])
    assert (y == x).all()


def test_the_forget_gate_of_an_lstm_starts_open():
    bias = make({"kind": "lstm_bias", "stacked": 1}, (2, 8 * 3))
    assert (bias[:, 6:9] == 1).all()
    assert bias.sum() == 6


def test_stacked_matrices_are_independent():
    both = make({"kind": "orthogonal", "stacked": 1}, (2, 12, 4))
    assert (both[0] != both[1]).any()
    assert np.allclose(both[1].T @ both[1], np.eye(4))


def test_a_stream_depends_on_seed_and_name_alone():
    first = make("normal", (4,), "a", 0)
    assert (make("normal", (4,), "a", 0) == first).all()
    assert (make("normal", (4,), "b", 0) != first).all()
    assert (make("normal", (4,), "a", 1) != first).all()


def test_numbers_stay_the_same_from_version_to_version():
    """What a seed means is a promise: models that were started from it can be started again."""
    array = make("glorot_uniform", (2, 2), "fc1.weight", 7)
    assert np.allclose(
        array,
        [[0.004182350199333327, 0.17313810237912058], [-1.0895061048511603, -1.0036088239693968]],
        rtol=1e-14,
        atol=0,
    )


@pytest.mark.parametrize("kind", sorted(initializers.REGISTRY))
def test_every_initializer_makes_small_weights(kind):
    for shape in ((1, 1), (1, 1, 1), (2, 3)):
        try:
            initializers.check_shape({"kind": kind}, shape)
        except DescriptionError:
            continue
        assert np.isfinite(make(kind, shape)).all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("glorot", "unknown initializer"),
        ({"stddev": 1}, "needs a kind"),
        ({"kind": "normal", "std": 1}, "no setting 'std'"),
        ({"kind": "normal", "stddev": "small"}, "is a number"),
        ({"kind": "zeros", "value": 1}, "no setting 'value'"),
    ],
)
def test_mistakes(spec, message):
    with pytest.raises(DescriptionError, match=message):
        initializers.check(spec)
