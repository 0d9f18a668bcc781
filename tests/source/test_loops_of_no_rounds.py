"""A loop whose body never runs: its states are what they were, and what its rounds would give is empty."""

import numpy as np
import onnx.parser
import onnxruntime
import pytest

import dlbridge
from dlbridge import frameworks

BODY = """<body = body (int64 i, bool goes, float[b,3] a) => (bool on, float[b,3] twice, float[b,3] c, int64[2] d) {
   on = Identity(goes)
   twice = Add(a, a)
   c = Neg(a)
   d = Constant<value = int64[2] {1, 2}>()
 }>"""
HEAD = '<ir_version: 9, opset_import: ["": 18]>'
RESULTS = "(float[b,3] y, float[k,b,3] c, int64[k,2] d)"
TEXTS = {
    "a count that is an input": f"""{HEAD} net (float[b,3] x, int64 n) => {RESULTS} {{
        goes = Constant<value = bool {{1}}>()
        y, c, d = Loop(n, goes, x) {BODY}
    }}""",
    "a condition that is an input": f"""{HEAD} net (float[b,3] x, bool goes) => {RESULTS} {{
        n = Constant<value = int64 {{4}}>()
        y, c, d = Loop(n, goes, x) {BODY}
    }}""",
    "a count of zero": f"""{HEAD} net (float[b,3] x) => {RESULTS} {{
        n = Constant<value = int64 {{0}}>()
        goes = Constant<value = bool {{1}}>()
        y, c, d = Loop(n, goes, x) {BODY}
    }}""",
}


@pytest.mark.parametrize("framework", ["pytorch", "keras", "nnx"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_no_round_gives_is_empty(text, framework):
    proto = onnx.parser.parse_model(text)
    arrays = {"x": np.ones((2, 3), np.float32), "n": np.array(0, np.int64), "goes": np.array(False)}
    given = {port.name: arrays[port.name] for port in proto.graph.input}
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    wanted = dict(zip("ycd", session.run(None, given), strict=True))
    bridge = frameworks.get(framework)
    found = bridge.run(bridge.load(dlbridge.load(proto).write(framework)), given)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_a_loop_that_runs_has_no_empty_outputs():
    text = TEXTS["a count of zero"].replace("{0}", "{3}")
    assert "empty=[" not in dlbridge.load(onnx.parser.parse_model(text)).write("pytorch").text
