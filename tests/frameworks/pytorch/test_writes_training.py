"""What written PyTorch models do beyond one inference: training, control flow, names, weights on the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError
from dlbridge.ops import traits
from tests.helpers.onnx_text import model

PYTORCH = frameworks.get("pytorch")
RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def test_running_variance_is_the_one_that_the_trait_names() -> None:
    text = "m (float[B, 3, 4] x) => (float[B, 3, 4] y) { y = BatchNormalization (x, s, b, mean, var) }"
    x = torch.tensor(normal(2, 3, 4), dtype=torch.float64)
    running = {}
    for variance in ("biased", "unbiased"):
        built = model(text, s=normal(3), b=normal(3), mean=np.zeros(3, "f4"), var=np.ones(3, "f4"))
        next(iter(built.graph)).metadata_props[traits.RUNNING_VARIANCE] = variance
        live = PYTORCH.load(PYTORCH.write(built)).double().train()
        live(x)
        running[variance] = live.node0.running_var.numpy()
    batch = x.numpy().transpose(1, 0, 2).reshape(3, -1)
    np.testing.assert_allclose(running["biased"], 0.9 + 0.1 * batch.var(1), rtol=1e-12)
    np.testing.assert_allclose(running["unbiased"], 0.9 + 0.1 * batch.var(1, ddof=1), rtol=1e-12)


def test_recurrent_weights_go_there_and_back() -> None:
    text = """m (float[T, B, 3] x) => (float[T, 2, B, 4] y, float[2, B, 4] h)
        { y, h = GRU <hidden_size = 4, linear_before_reset = 1, direction = "bidirectional"> (x, w, r, b) }"""
    built = model(text, w=normal(2, 12, 3), r=normal(2, 12, 4), b=normal(2, 24))
    source = PYTORCH.write(built)
    back = source.initializers(PYTORCH.weights(PYTORCH.load(source)))
    assert set(back) == {"w", "r", "b"}
    for name, array in back.items():
        np.testing.assert_array_equal(array, built.weights[name])


def test_body_of_a_loop_is_trained() -> None:
    text = """m (int64 n, float[B, 3] x) => (float[B, 3] y) {
        yes = Constant <value = bool {1}> ()
        y = Loop (n, yes, x) <body = step (int64 i, bool c, float[B, 3] h) => (bool c2, float[B, 3] h2) {
            c2 = Identity (c)
            m = MatMul (h, w)
            h2 = Tanh (m)
        }>
    }"""
    live = PYTORCH.load(PYTORCH.write(model(text, w=normal(3, 3))))
    x = torch.tensor(normal(2, 3))
    y = live(torch.tensor(3), x)
    (parameter,) = live.parameters()
    expected = x
    for _ in range(3):
        expected = torch.tanh(expected @ parameter)
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("positive", [True, False])
def test_branches_read_what_is_around_them(positive: bool) -> None:
    text = """m (bool c, float[B] x) => (float[B] y) {
        double = Add (x, x)
        y = If (c) <
            then_branch = yes () => (float[B] a) { a = Mul (double, x) },
            else_branch = no () => (float[B] b) { b = Neg (double) }
        >
    }"""
    x = normal(4)
    out = PYTORCH.run(PYTORCH.load(PYTORCH.write(model(text))), {"c": np.array(positive), "x": x})["y"]
    np.testing.assert_allclose(out, 2 * x * x if positive else -2 * x, rtol=1e-6)


def test_sizes_that_leave_are_those_of_their_own_value() -> None:
    text = """m (float[B, 2, 3] x) => (float[B, F] y, int64[3] s) { s = Shape (x)  y = Flatten (x) }"""
    out = PYTORCH.run(PYTORCH.load(PYTORCH.write(model(text))), {"x": normal(5, 2, 3)})
    assert out["s"].tolist() == [5, 2, 3]
    assert out["y"].shape == (5, 6)


def test_variable_never_hides_a_helper() -> None:
    built = model("m (float[B, 3] x) => (float[B, 3] y) { a = Hardmax (x)  b = Hardmax (a)  y = Add (x, b) }")
    for number, node in enumerate(built.graph):
        node.name = f"hardmax{number}"
    x = normal(2, 3)
    out = PYTORCH.run(PYTORCH.load(PYTORCH.write(built)), {"x": x})["y"]
    np.testing.assert_allclose(out, x + (x == x.max(1, keepdims=True)))


def test_every_refusal_is_in_one_error() -> None:
    text = """m (uint64[B] x) => (uint64[B] y, float[B] z)
        { y = Sign (x)  a = Cast <to = 22> (x)  z = Cast <to = 1> (a) }"""
    with pytest.raises(UnsupportedOpError) as error:
        PYTORCH.write(model(text))
    assert "uint64" in str(error.value) and "INT4" in str(error.value)


def test_batch_first_is_printed_where_the_graph_turns() -> None:
    text = """m (float[B, T, 3] x) => (float[B, T, 4] y) {
        turned = Transpose <perm = [1, 0, 2]> (x)
        all, last = GRU <hidden_size = 4, linear_before_reset = 1> (turned, w, r)
        squeezed = Squeeze (all, one)
        y = Transpose <perm = [1, 0, 2]> (squeezed)
    }"""
    built = model(text, w=normal(1, 12, 3), r=normal(1, 12, 4), one=np.array([1]))
    source = PYTORCH.write(built)
    assert "batch_first=True" in source.text
    assert "transpose" not in source.text
    x = normal(2, 5, 3)
    got = PYTORCH.run(PYTORCH.load(source), {"x": x})["y"]
    slow = torch.nn.GRU(3, 4, bias=False)
    slow.load_state_dict({k.removeprefix("node1."): torch.tensor(a) for k, a in source.arrays()})
    expected = slow(torch.tensor(x).transpose(0, 1))[0].transpose(0, 1).detach().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-6)
