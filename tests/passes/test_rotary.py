"""lift.rotary: halves that are turned by cosines and sines are one RotateHalves."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from dlbridge.model import Model
from dlbridge.passes import shapes
from dlbridge.passes.lift import lift

SLICES = """first = Slice(x, zero, four, last) second = Slice(x, four, end, last)"""
TURNED = "n = Neg(second) t = Concat <axis = -1> (n, first)"
SUM = "p = Mul(x, c) q = Mul(t, s) y = Add(p, q)"
CONSTANTS = "int64[1] zero = {0}, int64[1] four = {4}, int64[1] end = {9223372036854775807}, int64[1] last = {3}"


def _model(body: str) -> Model:
    text = f"""<ir_version: 10, opset_import: ["": 24]>
        g (float[batch,2,seq,8] x, float[1,1,seq,8] c, float[1,1,seq,8] s) => (y) <{CONSTANTS}> {{ {body} }}"""
    model = Model(ir.from_onnx_text(text))
    shapes.infer(model.ir)
    return model


def _run(model: Model) -> np.ndarray:
    random = np.random.default_rng(0)
    feeds = {"x": (3, 2, 5, 8), "c": (1, 1, 5, 8), "s": (1, 1, 5, 8)}
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in feeds.items()}
    return ReferenceEvaluator(ir.to_proto(model.ir)).run(None, arrays)[0]


@pytest.mark.parametrize(
    "body",
    [
        f"{SLICES} {TURNED} {SUM}",
        f"first, second = Split <axis = 3, num_outputs = 2> (x) {TURNED} {SUM}",
        f"{SLICES} {TURNED} p = Mul(c, x) q = Mul(s, t) y = Add(q, p)",
    ],
)
def test_turned_halves_are_one_op(body):
    model = _model(body)
    lifted = model.clone()
    lift(lifted.ir)
    assert [node.op_type for node in lifted.graph] == ["RotateHalves"]
    np.testing.assert_allclose(_run(lifted), _run(model), rtol=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        f"{SLICES} n = Neg(first) t = Concat <axis = -1> (second, n) {SUM}",  # the other way round
        f"{SLICES} n = Neg(second) t = Concat <axis = -1> (first, n) {SUM}",
        f"first = Slice(x, four, end, last) second = Slice(x, zero, four, last) {TURNED} {SUM}",
        f"{SLICES} {TURNED} p = Mul(x, c) q = Mul(t, s) y = Sub(p, q)",
        f"{SLICES} {TURNED} r = Relu(x) p = Mul(r, c) q = Mul(t, s) y = Add(p, q)",
    ],
)
def test_what_only_looks_like_it_stays(body):
    model = _model(body)
    lifted = model.clone()
    lift(lifted.ir)
    assert "RotateHalves" not in [node.op_type for node in lifted.graph]
    np.testing.assert_allclose(_run(lifted), _run(model), rtol=1e-6)
