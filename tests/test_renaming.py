"""Inputs and outputs get other names."""

import numpy as np
import onnx
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
