"""Attributes of a type, or a word, that their op does not have are refused; those of older opsets are read."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dlbridge
from dlbridge.errors import UnsupportedOpError


def model(node, opset, *weights):
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["b", 1, 4, 4]), ("y", None)))
    graph = helper.make_graph([node], "g", [x], [y], list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def resize(mode, opset):
    sizes = [numpy_helper.from_array(np.array(v, t), n) for n, v, t in (("r", [], "f4"), ("s", [1, 1, 2, 2], "f4"))]
    words = {"coordinate_transformation_mode": mode, "mode": "nearest", "nearest_mode": "floor"}
    return model(helper.make_node("Resize", ["x", "r", "s"], ["y"], **words), opset, *sizes)


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_a_word_of_an_older_opset_is_read(opset):
    """tf2onnx writes it at any opset."""
    dlbridge.load(resize("tf_half_pixel_for_nn", opset)).write("pytorch")


@pytest.mark.parametrize(
    "made",
    [
        resize("of_no_opset", 13),
        model(helper.make_node("Softmax", ["x"], ["y"], axis="x.shape[0]"), 20),
        model(helper.make_node("Gelu", ["x"], ["y"], approximate='none")'), 20),
        model(helper.make_node("Transpose", ["x"], ["y"], perm=["0", "1"]), 20),
        model(helper.make_node("Relu", ["x", "x"], ["y"]), 20),
    ],
    ids=["a word of no opset", "a word for a number", "no word", "words for numbers", "one input too many"],
)
def test_what_an_op_does_not_have_is_refused(made: onnx.ModelProto):
    with pytest.raises(UnsupportedOpError):
        dlbridge.load(made)
