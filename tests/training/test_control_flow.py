"""Control flow trains: gradients through If, Loop and Scan are the same in both frameworks."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import tensorflow as tf
import torch

from dlbridge import frameworks

PYTORCH, KERAS = frameworks.get("pytorch"), frameworks.get("keras")
RNG = np.random.default_rng(2)


def model(text: str, w: np.ndarray):
    """The model of a graph in ONNX's text form that reads the weight ``w``."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}')
    proto.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    return frameworks.get("onnx").read(proto)


STEP = "m = MatMul (h, w)  h2 = Tanh (m)"
CASES = {
    "if": """m (float[B, 3] x) => (float[B, 3] y) {
        total = ReduceSum <keepdims = 0> (x)  zero = Constant <value = float {0}> ()  c = Greater (total, zero)
        y = If (c) <
            then_branch = yes () => (float[B, 3] a) { a = MatMul (x, w) },
            else_branch = no () => (float[B, 3] b) { t = MatMul (x, w)  b = Tanh (t) }>
    }""",
    "counted loop": f"""m (float[B, 3] x) => (float[B, 3] y, float[3, B, 3] all) {{
        n = Constant <value = int64 {{3}}> ()
        y, all = Loop (n, , x) <body = step (int64 i, bool c, float[B, 3] h) => (bool c2, float[B, 3] h2, float[B, 3] o)
            {{ c2 = Identity (c)  {STEP}  o = Identity (h2) }}>
    }}""",
    "loop while": f"""m (float[B, 3] x) => (float[B, 3] y) {{
        n = Constant <value = int64 {{9}}> ()  yes = Constant <value = bool {{1}}> ()
        y = Loop (n, yes, x) <body = step (int64 i, bool c, float[B, 3] h) => (bool c2, float[B, 3] h2)
            {{ two = Constant <value = int64 {{2}}> ()  c2 = Less (i, two)  {STEP} }}>
    }}""",
    "scan": f"""m (float[T, B, 3] x, float[B, 3] start) => (float[B, 3] y, float[T, B, 3] all) {{
        y, all = Scan <num_scan_inputs = 1, body =
            step (float[B, 3] g, float[B, 3] part) => (float[B, 3] h2, float[B, 3] o) {{
                h = Add (g, part)  {STEP}  o = Identity (h2) }}> (start, x)
    }}""",
}


@pytest.mark.parametrize("text", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("sign", [1, -1])
def test_gradients_go_through(text: str, sign: int) -> None:
    w = RNG.standard_normal((3, 3)).astype(np.float32)
    shapes = [(4, 2, 3), (2, 3)] if "Scan" in text else [(2, 3)]
    inputs = [np.float32(sign) * np.abs(RNG.standard_normal(s)).astype(np.float32) for s in shapes]
    live = PYTORCH.load(PYTORCH.write(model(text, w=w)))
    results = live(*map(torch.tensor, inputs))
    results = results if isinstance(results, tuple) else (results,)
    sum((y * y).sum() for y in results).backward()
    (weight,) = live.parameters()
    network = KERAS.load(KERAS.write(model(text, w=w)))
    with tf.GradientTape() as tape:
        outputs = network([tf.constant(x) for x in inputs] if len(inputs) > 1 else tf.constant(inputs[0]))
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        loss = sum(tf.reduce_sum(y * y) for y in outputs)
    (variable,) = network.trainable_variables
    expected = weight.grad.numpy()
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(np.asarray(tape.gradient(loss, variable)), expected, rtol=2e-5, atol=1e-5)
