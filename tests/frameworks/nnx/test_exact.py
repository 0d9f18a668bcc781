"""NNX modules in float64: what verification compares with where rounding could be the reason of a difference."""

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("flax")

from dlbridge import frameworks
from dlbridge.model import Model
from dlbridge.ops.evaluator import Evaluator

GRAPHS = {
    "sums, branches and constants": (
        "(float[2, 8] x) => (float[2, 1] y)",
        """w = Constant<value = float[8, 4] {W}>() h = MatMul(x, w) s = Sigmoid(h) c = CumSum(s, one)
        m = ReduceMax<keepdims = 1>(c, axes) big = Greater(m, half) f = Cast<to = 1>(big) y = Mul(f, m)""",
    ),
    "a scan": (
        "(float[5, 2, 3] x) => (float[5, 1, 2, 4] y)",
        "y, last = GRU<hidden_size = 4, linear_before_reset = 1>(x, w3, r3)",
    ),
    "pooling and convolution": (
        "(float[1, 3, 9, 9] x) => (float[1, 2, 3, 3] y)",
        "h = Conv<pads = [1, 1, 1, 1]>(x, k) p = MaxPool<kernel_shape = [3, 3], strides = [3, 3]>(h) y = Softmax(p)",
    ),
    "half precision": ("(float16[4, 6] x) => (float16[4, 6] y)", "h = Exp(x) y = LayerNormalization(h, ones)"),
}


def model(signature: str, body: str) -> Model:
    numbers = np.random.default_rng(0)

    def tensor(*shape: int) -> str:
        values = ", ".join(f"{n:.4f}" for n in numbers.normal(size=shape).ravel())
        return f"float[{', '.join(map(str, shape))}] {{{values}}}"

    body = body.replace("float[8, 4] {W}", tensor(8, 4))
    constants = {
        "one": "int64 {1}",
        "axes": "int64[1] {1}",
        "half": "float {0.5}",
        "w3": tensor(1, 12, 3),
        "r3": tensor(1, 12, 4),
        "k": tensor(2, 3, 3, 3),
        "ones": f"float16[6] {{{', '.join('1' * 6)}}}",
    }
    made = "".join(f"{n} = Constant<value = {t}>() " for n, t in constants.items() if f"{n}" in body)
    return Model(ir.from_onnx_text(f'<ir_version: 10, opset_import: ["": 23]> g {signature} {{ {made} {body} }}'))


@pytest.mark.parametrize("name", GRAPHS)
def test_float64_is_that_of_the_standard(name):
    graph = model(*GRAPHS[name])
    framework = frameworks.get("nnx")
    live = framework.load(framework.write(graph))
    (given,) = graph.inputs
    x = {given.name: np.random.default_rng(1).normal(size=given.shape.numpy()).astype(given.dtype.numpy())}
    run = framework.exact(live)
    seen: list[np.ndarray] = []
    (found,) = run(x, seen=seen).values()
    (right,) = Evaluator(graph.ir)(x).values()
    (own,) = framework.run(live, x).values()
    assert found.dtype == np.float64 and own.dtype == given.dtype.numpy()
    np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-12)
    assert not np.array_equal(own, found)  # the types of its own do round
    assert run.eps == float(np.finfo(given.dtype.numpy()).eps)
    assert seen and all(array.dtype == np.float64 for array in seen)
    (moved,) = run(x, noise=1e-3).values()
    assert not np.array_equal(moved, found)
