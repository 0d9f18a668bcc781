"""passes.shapes: dtype and shape of every value."""

import onnx_ir as ir
import pytest

from dlbridge.errors import ShapeError
from dlbridge.model import Model
from dlbridge.passes import shapes


def _model(signature: str, body: str) -> Model:
    return Model(
        ir.from_onnx_text(f'<ir_version: 10, opset_import: ["": 28, "dlbridge": 1]> g {signature} {{ {body} }}')
    )


def _shape(model: Model, name: str) -> str:
    found = {v.name: v for n in model.graph.all_nodes() for v in n.outputs}[name]
    return f"{found.dtype}{found.shape}"


def test_symbolic_names_go_through_extension_ops_and_subgraphs():
    model = _model(
        "(float[batch, 5] x, bool flag, float[16, 5] W) => (y)",
        """[fc] h = dlbridge.Linear(x, W)
        [choice] y = If(flag) <then_branch = t () => (a) { [relu] a = Relu(h) },
                               else_branch = e () => (b) { [sigmoid] b = Sigmoid(h) }>""",
    )
    shapes.infer(model)
    assert _shape(model, "h") == _shape(model, "a") == _shape(model, "y") == "FLOAT[batch,16]"


def test_shape_arithmetic_is_followed():
    model = _model(
        "(float[batch, 3, 4] x) => (y)",
        """[shape] s = Shape<end = 1>(x)
        [rest] rest = Constant<value = int64[1] {12}>()
        [join] t = Concat<axis = 0>(s, rest)
        [reshape] y = Reshape(x, t)""",
    )
    shapes.infer(model)
    assert _shape(model, "y") == "FLOAT[batch,12]"


@pytest.mark.parametrize("op", ["MatMul", "dlbridge.Linear"])
def test_a_mismatch_names_the_node_and_both_shapes(op):
    model = _model("(float[batch, 3] x, float[16, 5] W) => (y)", f"[fc] y = {op}(x, W)")
    model.graph[0].name = "encoder.fc"
    with pytest.raises(ShapeError) as caught:
        shapes.infer(model)
    assert caught.value.where == "encoder.fc"
    assert "FLOAT[batch,3]" in str(caught.value) and "FLOAT[16,5]" in str(caught.value)


def test_mismatched_dtypes():
    model = _model("(float[2] x, int64[2] k) => (y)", "[add] y = Add(x, k)")
    with pytest.raises(ShapeError, match=r"add: .*INT64\[2\]"):
        shapes.infer(model)
