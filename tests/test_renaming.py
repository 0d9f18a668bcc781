"""Inputs and outputs get other names."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

import dlbridge
from dlbridge import renaming
from dlbridge.errors import DlbridgeError, SignatureError

FILE = onnx.parser.parse_model(
    '<ir_version: 10, opset_import: ["": 20]> g (float[N,3] x) => (float[N,3] y) { image = Relu(x) \n y = Neg(image) }'
)


def _names(model):
    return [v.name for v in (*model.inputs, *model.outputs)]


def _linear():
    return dlbridge.load(
        torch.nn.Linear(3, 2).eval(),
        inputs={"input": "float32[batch,3]"},
        rename={"input": "image", "output": "scores"},
    )


@pytest.mark.parametrize("make", [_linear, lambda: dlbridge.load(FILE, rename={"x": "image", "y": "scores"})])
def test_new_names_are_those_of_what_is_written_and_of_the_original(make):
    model = make()
    assert _names(model) == ["image", "scores"]
    arrays = {"image": np.ones((2, 3), "float32")}
    assert list(model.original(arrays)) == ["scores"]
    assert list(model.original.exact()(arrays)) == ["scores"]
    written = dlbridge.convert(model, "onnx")
    assert (written.inputs, written.outputs) == (["image"], ["scores"])


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ({"input": "image"}, "no input or output 'input'"),
        ({"x": "y"}, "cannot be called 'y'"),
        ({"x": "a", "y": "a"}, "cannot be called 'a'"),
        ({"x": 'a"b'}, "quotes"),
    ],
)
def test_names_that_cannot_be_are_refused(names, why):
    with pytest.raises(DlbridgeError, match=why):
        dlbridge.load(FILE, rename=names)


def test_names_can_change_places():
    assert _names(dlbridge.load(FILE, rename={"x": "y", "y": "x"})) == ["y", "x"]


def test_the_name_of_a_weight_is_taken():
    with pytest.raises(SignatureError, match="a weight of the model"):
        dlbridge.load(torch.nn.Linear(3, 2), inputs={"input": "float32[b,3]"}, rename={"input": "weight"})


@pytest.mark.parametrize("texts", [["x"], ["=y"], ["x="], ["x=a", "x=b"]])
def test_a_text_that_says_no_names_is_refused(texts):
    with pytest.raises(ValueError):
        renaming.parse_names(texts)


def _file(path, first, last):
    """A file whose input and output have these names."""
    node = onnx.helper.make_node("Relu", [first], [last])
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3]) for name in (first, last)]
    graph = onnx.helper.make_graph([node], "g", ports[:1], ports[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.mark.parametrize(
    "first, last", [("input.1", "7"), ("x:0", "Identity:0"), ("class", "import/y:0"), ("x\x1b[31m'", '"""')]
)
def test_a_file_whose_names_are_no_identifiers_is_converted_with_its_check(tmp_path, first, last):
    model = dlbridge.load(_file(tmp_path / "m.onnx", first, last))
    name, answer = _names(model)
    assert name.isidentifier() and answer.isidentifier()
    np.testing.assert_array_equal(model.original({name: -np.ones((2, 3), "float32")})[answer], np.zeros((2, 3)))
    dlbridge.convert(model, "pytorch", tmp_path / "out")
    assert (tmp_path / "out" / "certificate.json").is_file()


def test_an_input_is_renamed_by_the_name_that_it_has_in_the_file(tmp_path):
    model = dlbridge.load(_file(tmp_path / "m.onnx", "input.1", "7"), rename={"input.1": "image", "7": "scores"})
    assert _names(model) == ["image", "scores"]
    assert list(model.original({"image": np.ones((2, 3), "float32")})) == ["scores"]


@pytest.mark.parametrize("first, last", [("input.1", "7"), ("x:0", "Identity:0"), ("class", "import/y:0")])
def test_a_written_onnx_file_has_the_names_of_the_file_that_was_read(tmp_path, first, last):
    old = _file(tmp_path / "m.onnx", first, last)
    dlbridge.convert(old, "onnx", tmp_path / "new.onnx")
    dlbridge.convert(old, "onnx", tmp_path / "entry")
    x = -np.ones((2, 3), "float32")
    for path in (tmp_path / "new.onnx", tmp_path / "entry" / "1" / "model.onnx"):
        session = onnxruntime.InferenceSession(path)
        assert [port.name for port in (*session.get_inputs(), *session.get_outputs())] == [first, last]
        np.testing.assert_array_equal(session.run([last], {first: x})[0], np.zeros((2, 3)))
    config = (tmp_path / "entry" / "config.pbtxt").read_text()
    assert f'name: "{first}"' in config and f'name: "{last}"' in config


def test_names_of_the_file_go_where_others_are_given_and_stay_in_a_description(tmp_path):
    model = dlbridge.load(_file(tmp_path / "m.onnx", "input.1", "7"), rename={"input.1": "image"})
    model.save(tmp_path / "saved")
    for each in (model, dlbridge.load(tmp_path / "saved")):
        graph = each.to_onnx().graph
        assert [value.name for value in (*graph.inputs, *graph.outputs)] == ["image", "7"]


def test_a_value_within_the_graph_makes_room_for_the_name_of_a_port(tmp_path):
    model = dlbridge.load(_file(tmp_path / "m.onnx", "input.1", "7"))
    inner = ir.node("Neg", [model.outputs[0]], name="negated")
    inner.outputs[0].name = "7"
    answer = model.outputs[0].name
    outer = ir.node("Neg", [inner.outputs[0]], name="again")
    model.graph.outputs[0].name = "first"
    outer.outputs[0].name = answer
    model.graph.extend([inner, outer])
    model.graph.outputs[0] = outer.outputs[0]
    session = onnxruntime.InferenceSession(ir.to_proto(model.to_onnx()).SerializeToString())
    np.testing.assert_array_equal(session.run(["7"], {"input.1": np.ones((2, 3), "f")})[0], np.ones((2, 3)))
