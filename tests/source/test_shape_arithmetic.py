"""Sizes that exporters compute with tensors are Python ints in the printed code, in both frameworks."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from dlbridge import frameworks

pytestmark = [pytest.mark.pytorch, pytest.mark.keras]

RNG = np.random.default_rng(4)

_NUMBERS = {"zero": 0, "one": 1, "two": 2, "last": -1}
_VECTORS = {"v0": [0], "v1": [1], "v2": [2], "v4": [4], "v3": [3], "all": [-1], "column": [-1, 1], "big": [32, 8]}
#: name -> (signature, body, code of PyTorch, code of Keras, inputs at two sizes).
CASES = {
    "view of heads": (
        "(float[batch, seq, 12] x) => (float[batch, 3, seq, 4] y)",
        """s = Shape (x)  b = Gather (s, zero)  s2 = Shape (x)  t = Gather (s2, one)  b1 = Unsqueeze (b, v0)
        t1 = Unsqueeze (t, v0)  to = Concat <axis = 0> (b1, t1, v3, v4)  v = Reshape (x, to)
        y = Transpose <perm = [0, 2, 1, 3]> (v)""",
        ["x.unflatten(2, (3, 4)).transpose(1, 2)"],
        ["split_heads(inputs, 3)"],
        [(2, 5, 12), (1, 3, 12)],
    ),
    "causal mask": (
        "(float[batch, seq] x) => (float[seq, seq] y)",
        """s = Shape (x)  t = Slice (s, v1, v2, v0)  n = Squeeze (t, v0)  r = Range (zero, n, one)
        col = Reshape (r, column)  m = Less (r, col)  z = Cast <to = 1> (m)  both = Concat <axis = 0> (t, t)
        full = ConstantOfShape <value = float[1] {2.0}> (both)  w = Cast <to = 1> (r)
        v = Mul (full, w)  y = Mul (v, z)""",
        ["torch.arange(x.shape[1], device=x.device)", "torch.full((x.shape[1], x.shape[1]), 2.0, "],
        ["ops.arange(ops.shape(x)[1], ", "ops.full((ops.shape(x)[1], ops.shape(x)[1]), 2.0"],
        [(2, 5), (1, 3)],
    ),
    "quotients that are truncated and rounded down": (
        "(float[batch, seq] x) => (int64[3] r)",
        """s = Shape (x)  t = Slice (s, v1, v2, v0)  n = Neg (t)  q = Div (n, v4)  y = Neg (q)
        m = Mod (n, v4)  d = Sub (n, m)  f = Div (d, v4)  z = Neg (f)  w = Div (n, all)
        r = Concat <axis = 0> (y, z, w)""",
        ["x.shape[1] // 4", "-(-x.shape[1] // 4)"],
        ["ops.shape(x)[1] // 4", "-(-ops.shape(x)[1] // 4)"],
        [(2, 5), (1, 8)],
    ),
    "quotients of differences, which may be negative": (
        "(float[batch, seq] x) => (int64[2] r)",
        """s = Shape (x)  t = Slice (s, v1, v2, v0)  d = Sub (t, v4)  q = Div (d, v3)
        e = Add (t, v3)  f = Sub (e, v2)  g = Div (f, v4)  r = Concat <axis = 0> (q, g)""",
        ["[truncated_size(x.shape[1] - 4, 3), (x.shape[1] + 3 - 2) // 4]"],
        ["truncated_size(ops.shape(x)[1] - 4, 3)", "(ops.shape(x)[1] + 3 - 2) // 4"],
        [(2, 8), (2, 3), (2, 1)],
    ),
    "positions": (
        "(float[batch, seq] x) => (int64[batch, seq] y)",
        """s = Shape (x)  t = Gather (s, one)  r = Range (zero, t, one)  p = Unsqueeze (r, v0)  y = Expand (p, s)""",
        [".expand(x.shape[0], -1)"],
        ["ops.broadcast_to("],
        [(2, 5), (1, 3)],
    ),
    "table cut to length": (
        "(float[batch, seq, 8] x) => (float[batch, seq, 8] y)",
        """s = Shape (x)  t = Gather (s, one)  t1 = Unsqueeze (t, v0)
        table = ConstantOfShape <value = float[1] {0.5}> (big)  cut = Slice (table, v0, t1, v0)  y = Add (x, cut)""",
        ["self.table[:x.shape[1]]"],
        ["self.table[:ops.shape(x)[1], ...]"],
        [(2, 5, 8), (1, 3, 8)],
    ),
    "windows": (
        "(float[batch, high, wide, 4] x) => (float[n, 2, 2, 4] y)",
        """s = Shape (x)  b = Gather (s, zero)  h = Gather (s, one)  w = Gather (s, two)  h2 = Div (h, two)
        w2 = Div (w, two)  b1 = Unsqueeze (b, v0)  h1 = Unsqueeze (h2, v0)  w1 = Unsqueeze (w2, v0)
        to = Concat <axis = 0> (b1, h1, v2, w1, v2, v4)  v = Reshape (x, to)
        t = Transpose <perm = [0, 1, 3, 2, 4, 5]> (v)  back = Concat <axis = 0> (all, v2, v2, v4)
        y = Reshape (t, back)""",
        ["x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2, 4)"],
        ["(ops.shape(x)[0], ops.shape(x)[1] // 2, 2, ops.shape(x)[2] // 2, 2, 4)"],
        [(2, 4, 6, 4), (1, 2, 2, 4)],
    ),
    "half of the features": (
        "(float[batch, seq, 6] x) => (float[batch, seq, 3] y)",
        """s = Shape (x)  n = Gather (s, two)  k = Div (n, two)  k1 = Unsqueeze (k, v0)  y = Slice (x, v0, k1, v2)""",
        ["x[:, :, :3]"],
        ["[:, :, :3]"],
        [(2, 5, 6), (1, 3, 6)],
    ),
    "scale by the root of a size": (
        "(float[batch, 16] x) => (float[batch, 16] y)",
        "s = Shape (x)  d = Gather (s, last)  f = Cast <to = 1> (d)  r = Sqrt (f)  y = Div (x, r)",
        ["x / 4.0"],
        ["/ 4.0"],
        [(2, 16), (1, 16)],
    ),
}


def _proto(signature: str, body: str) -> onnx.ModelProto:
    constants = [f"{n} = Constant <value = int64 {{{v}}}> ()" for n, v in _NUMBERS.items() if n in body]
    constants += [
        f"{n} = Constant <value = int64[{len(v)}] {{{', '.join(map(str, v))}}}> ()"
        for n, v in _VECTORS.items()
        if n in body
    ]
    return onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 17]> net {signature} {{ {" ".join(constants)} {body} }}'
    )


@pytest.mark.parametrize(("signature", "body", "pytorch", "keras", "shapes"), CASES.values(), ids=CASES.keys())
def test_sizes_are_ints(signature, body, pytorch, keras, shapes) -> None:
    proto = _proto(signature, body)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    model = frameworks.get("onnx").read(proto)
    for name, expected in (("pytorch", pytorch), ("keras", keras)):
        framework = frameworks.get(name)
        source = framework.write(model)
        for code in expected:
            assert code in source.text
        live = framework.load(source)
        for shape in shapes:
            x = RNG.standard_normal(shape).astype(np.float32)
            (got,) = framework.run(live, {"x": x}).values()
            (right,) = session.run(None, {"x": x})
            assert (got.dtype, got.shape) == (right.dtype, right.shape)
            np.testing.assert_allclose(got, right, rtol=1e-6)
