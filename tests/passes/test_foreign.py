"""A rule for an op of somebody's domain is all that it takes for the op to be read."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

import dlbridge
from dlbridge.errors import UnsupportedOpError
from dlbridge.passes.foreign import site

TEXT = """<ir_version: 10, opset_import: ["": 21, "ai.example": 1]>
g (float[n, 3] x) => (float[n, 3] y) { s = ai.example.Snake <a = 0.5> (x) y = Relu(s) }"""


@pytest.fixture
def file(tmp_path):
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_an_op_of_an_own_domain_becomes_standard_ops_and_its_domain_goes(file, monkeypatch):
    monkeypatch.setitem(site.RULES, "ai.example::Snake", None)  # puts back what is registered here

    @site.rule("Snake", domain="ai.example")
    def snake(found):
        rate = found.scalar("rate", found.get("a", 1.0))
        wave = found.op("Sin", "wave", [found.op("Mul", "phase", [found.x, rate])])
        ripple = found.op("Div", "ripple", [found.op("Mul", "square", [wave, wave]), rate])
        return found.op("Add", "snake", [found.x, ripple])

    written = dlbridge.load(file).write("onnx").file_ir
    assert "ai.example" not in written.graph.opset_imports
    x = np.array([[-1.0, 0.5, 2.0]], np.float32)
    (y,) = ReferenceEvaluator(ir.to_proto(written)).run(None, {"x": x})
    np.testing.assert_allclose(y, np.maximum(x + np.sin(0.5 * x) ** 2 / 0.5, 0), rtol=1e-6)


def test_without_a_rule_the_error_says_what_can_be_done(file):
    with pytest.raises(UnsupportedOpError, match=r"op Snake of the domain ai\.example: s\n.*--partial"):
        dlbridge.load(file)
