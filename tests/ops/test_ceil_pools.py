"""Pooling in ``ceil_mode`` in the reference evaluator, beside PyTorch's."""

import itertools

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from dlbridge.ops.evaluator import Evaluator

SHAPES = [c for c in itertools.product([7, 8, 13], [2, 3], [1, 2, 3], [0, 1], [1, 2]) if c[3] <= c[1] // 2]


def pool(op: str, x: np.ndarray, kernel: int, stride: int, pad: int, **more) -> np.ndarray:
    node = helper.make_node(
        op, ["x"], ["y"], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, **{"ceil_mode": 1, **more}
    )
    ports = [helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, s) for n, s in (("x", x.shape), ("y", None))]
    graph = helper.make_graph([node], "pool", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    return Evaluator(ir.from_proto(model))({"x": x})["y"]


@pytest.mark.parametrize(("size", "kernel", "stride", "pad", "dilation"), SHAPES)
def test_pools_are_those_of_pytorch(size, kernel, stride, pad, dilation):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((1, 2, size, size))
    t = torch.from_numpy(x)
    wanted = torch.nn.functional.max_pool2d(t, kernel, stride, pad, dilation, True).numpy()
    np.testing.assert_array_equal(pool("MaxPool", x, kernel, stride, pad, dilations=[dilation] * 2), wanted)
    wanted = torch.nn.functional.max_pool2d(t, kernel, stride, pad, dilation).numpy()
    np.testing.assert_array_equal(
        pool("MaxPool", x, kernel, stride, pad, dilations=[dilation] * 2, ceil_mode=0), wanted
    )
    for counts in (0, 1) if dilation == 1 else ():
        wanted = torch.nn.functional.avg_pool2d(t, kernel, stride, pad, True, bool(counts)).numpy()
        found = pool("AveragePool", x, kernel, stride, pad, count_include_pad=counts)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
