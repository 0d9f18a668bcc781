"""Small graphs for the tests of the layout pass: made node by node, run as they stand."""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
import onnxruntime as ort

from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes import shapes

FLOAT = ir.DataType.FLOAT


class Build:
    """Makes a graph node by node; weights from one seed."""

    def __init__(self, *shape):
        self.x = ir.val("x", dtype=FLOAT, shape=ir.Shape(shape))
        self.nodes, self.weights, self.rng = [], [], np.random.default_rng(0)

    def weight(self, array, kind="constant"):
        name = f"w{len(self.weights)}"
        tensor = ir.tensor(np.asarray(array), name=name)
        value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        traits.set_kind(value, kind)
        self.weights.append(value)
        return value

    def random(self, *shape, kind="parameter"):
        return self.weight(self.rng.normal(size=shape).astype(np.float32), kind)

    def ints(self, *numbers):
        return self.weight(np.array(numbers, np.int64))

    def __call__(self, op_type, *inputs, domain="", outputs=1, **attributes):
        name = f"n{len(self.nodes)}"
        node = ir.node(op_type, list(inputs), attributes, domain=domain, num_outputs=outputs, name=name)
        for index, value in enumerate(node.outputs):
            value.name = f"{name}.{index}"
        self.nodes.append(node)
        return node.outputs[0] if outputs == 1 else list(node.outputs)

    def model(self, *outputs):
        model = Model.build("g", [self.x], outputs, self.nodes, self.weights)
        shapes.infer(model.ir)
        return model


def inlined(model):
    """The model without functions."""
    return common.InlinePass()(model.clone().ir).model


def run(model, x):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # As it stands: onnxruntime's own moving of transposes breaks a Resize that has sizes and axes.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = ir.to_proto(inlined(model)).SerializeToString()
    session = ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})
