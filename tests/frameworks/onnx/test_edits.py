"""Files whose sizes the user changes, and that are cut at named values."""

import numpy as np
import onnx
import pytest

import dlbridge
from dlbridge.errors import SignatureError


def _model(text):
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]>\n{text}')


WEIGHT = ",".join(str(i % 7 - 3) for i in range(108))
CONV = _model(
    """g (float[1,3,8,8] x) => (float[1,4] y) <float[4,3,3,3] w = {WEIGHT}, int64[2] s = {0, -1}> {
    c = Conv <pads = [1,1,1,1]> (x, w)
    r = Relu(c)
    p = GlobalAveragePool(r)
    y = Reshape(p, s)
}""".replace("WEIGHT", WEIGHT)
)
ADD = _model("g (float[N,3] x, float[N,3] z) => (float[N,3] y) { a = Add(x, z) \n y = Relu(a) }")


#: What makes a row depend on others, or states a size in a way that cannot follow it: the graph, and the node's name.
FIXED = {
    "a product with its rows": (
        "g (float[1,3,4] x) => (float[5,6] y) <int64[2] s = {2,6}, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}>"
        "{ r = Reshape(x, s) \n y = MatMul(w, r) }",
        "'y'",
    ),
    "a mean of all": ("g (float[1,3] x) => (float[1,3] y) { m = ReduceMean(x) \n y = Sub(x, m) }", "'y'"),
    "a sum of rows": (
        "g (float[1,3] x) => (float[1,3] y) <int64[1] s = {0}> { y = ReduceSum(x, s) }",
        "'y'",
    ),
    "rows of a table": (
        "g (float[1,3] x) => (float[1,2] y) <int64[2] s = {0, 2}> { f = Transpose(x) \n c = Gather(f, s) \n"
        " z = Transpose(c) \n m = ReduceMax(x) \n y = Sub(z, m) }",
        "'y'",
    ),
}


def _sizes(model):
    return [str(v.shape) for v in (*model.inputs, *model.outputs)]


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ("[batch,3,8,8]", ["[batch,3,8,8]", "[batch,4]"]),
        ("float32[batch,3,h,w]", ["[batch,3,h,w]", "[batch,4]"]),
        ("[5,3,16,8]", ["[5,3,16,8]", "[5,4]"]),
    ],
)
def test_sizes_are_those_that_the_user_names(given, sizes):
    model = dlbridge.load(CONV, inputs={"x": given})
    assert _sizes(model) == sizes
    shape = [5, 3, 16, 8] if "h,w" in given or "5" in given else [5, 3, 8, 8]
    assert model.original({"x": np.ones(shape, "float32")})["y"].shape == (5, 4)
    dlbridge.convert(model, "pytorch")


def test_a_name_is_one_size_in_all_inputs():
    assert _sizes(dlbridge.load(ADD, inputs={"x": "[4,3]"})) == ["[4,3]"] * 3
    assert _sizes(dlbridge.load(ADD, inputs={"x": "[rows,3]"})) == ["[rows,3]"] * 3


@pytest.mark.parametrize("what", FIXED)
def test_a_size_that_the_graph_holds_is_refused_with_the_node(what):
    text, node = FIXED[what]
    with pytest.raises(SignatureError, match="'batch' cannot be free") as caught:
        first = text.partition("[1,")[2].partition("]")[0]
        dlbridge.load(_model(text), inputs={"x": f"[batch,{first}]"})
    assert f"node {node}" in caught.value.where


@pytest.mark.parametrize("given", ["[1,4,8,8]", "[batch,4,8,8]"])
def test_numbers_that_the_graph_does_not_take_are_refused_with_the_node(given):
    with pytest.raises(SignatureError, match="does not run with") as caught:
        dlbridge.load(CONV, inputs={"x": given})
    assert "Conv node 'c'" in caught.value.where and "onnxruntime" not in str(caught.value).lower()


def test_numbers_that_an_inference_of_shapes_refuses_are_named_too():
    text = "g (float[1,4] x) => (float[1,2] y) <float[4,2] w = {1,2,3,4,5,6,7,8}> { y = MatMul(x, w) }"
    with pytest.raises(SignatureError, match=r"does not run with x\[1,5\]") as caught:
        dlbridge.load(_model(text), inputs={"x": "[1,5]"})
    assert "MatMul node 'y'" in caught.value.where and "the file says x[1,4]" in caught.value.hint


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({"x": "[batch,3]"}, "takes 4 axes"),
        ({"x": "float64[batch,3,8,8]"}, "takes float32, not float64"),
        ({"x": "flot32[batch,3,8,8]"}, "no dtype"),
        ({"y": "[batch,3,8,8]"}, "no input 'y'"),
        ({"x": "[2*batch,3,8,8]"}, "is no size of an ONNX file"),
        ({"x": "[99999999999999999999,3,8,8]"}, "is no size of an ONNX file"),
        ({"x": np.ones((1, 3, 8, 8), "float32")}, "said as text"),
    ],
)
def test_inputs_that_do_not_fit_the_file_are_refused(inputs, why):
    with pytest.raises(SignatureError, match=why):
        dlbridge.load(CONV, inputs=inputs)


def test_one_name_cannot_be_two_sizes():
    with pytest.raises(SignatureError, match="'N' is 4 and 5"):
        dlbridge.load(ADD, inputs={"x": "[4,3]", "z": "[5,3]"})


def test_a_part_of_a_file_between_named_values():
    model = dlbridge.load(CONV, from_values=("c",), until_values=("p",))
    assert [v.name for v in (*model.inputs, *model.outputs)] == ["c", "p"]
    assert _sizes(model) == ["[1,4,8,8]", "[1,4,1,1]"]
    x = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype("float32")
    np.testing.assert_allclose(
        model.original({"c": x})["p"], np.maximum(x, 0).mean((2, 3), keepdims=True), rtol=1e-5, atol=1e-6
    )
    dlbridge.convert(model, "pytorch")


def test_a_part_keeps_the_inputs_that_it_needs_beside_the_named_ones():
    model = dlbridge.load(ADD, from_values=("x",), until_values=("a",))
    assert [v.name for v in model.inputs] == ["x", "z"]


def test_a_cut_and_other_sizes_go_together():
    assert _sizes(dlbridge.load(CONV, from_values=("c",), inputs={"c": "[batch,4,8,8]"})) == [
        "[batch,4,8,8]",
        "[batch,4]",
    ]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"from_values": ("q",)}, "no value 'q'"),
        ({"until_values": ("q",)}, "no value 'q'"),
        ({"from_values": ("y",), "until_values": ("c",)}, "do not need y"),
    ],
)
def test_values_that_are_not_there_or_not_needed_are_refused(options, why):
    with pytest.raises(SignatureError, match=why):
        dlbridge.load(CONV, **options)


def test_the_file_itself_stays_as_it_is():
    before = CONV.SerializeToString()
    dlbridge.load(CONV, inputs={"x": "[batch,3,8,8]"}, until_values=("p",))
    assert CONV.SerializeToString() == before
