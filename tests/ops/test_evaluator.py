"""The reference evaluator in float64 runs what the standard allows."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from dlbridge.ops.evaluator import Evaluator


@pytest.mark.parametrize("shape", [(), (1,)])
def test_the_depth_of_a_one_hot_is_a_number_or_a_tensor_of_one(shape):
    depth = helper.make_tensor("depth", TensorProto.INT64, shape, [3])
    values = helper.make_tensor("values", TensorProto.FLOAT, (2,), [0, 1])
    graph = helper.make_graph(
        [helper.make_node("OneHot", ["x", "depth", "values"], ["y"])],
        "one_hot",
        [helper.make_tensor_value_info("x", TensorProto.INT64, (2,))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 3))],
        [depth, values],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)])
    found = Evaluator(ir.from_proto(model))({"x": np.array([2, 0])})["y"]
    assert found.tolist() == [[0, 0, 1], [1, 0, 0]]
