"""``--partial``: what is not supported is written as functions to be filled in; without it, one error names it all."""

import keras
import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import dlbridge
from dlbridge.errors import UnsupportedOpError


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)

    def forward(self, x):
        y = self.fc(x)
        return torch.linalg.eigvalsh(y @ y.mT) + 1


def net():
    return Net().eval(), {"inputs": {"x": "float32[batch,4,4]"}}


def test_without_it_one_error_names_the_op_and_where_it_stands():
    module, read = net()
    with pytest.raises(UnsupportedOpError, match=r"(?s)eig.*test_partial\.py"):
        dlbridge.load(module, **read)


def test_pytorch_functions_raise_until_they_are_filled_in():
    module, read = net()
    source = dlbridge.convert(module, "pytorch", partial=True, read=read)
    (name,) = source.stand_ins
    assert "eig" in name
    assert f"def {name}(" in source.text
    live = dlbridge.frameworks.get("pytorch").load(source)
    x = torch.randn(2, 4, 4)
    with pytest.raises(NotImplementedError, match=name):
        live(x)
    filled = source.text.replace(f'    raise NotImplementedError("{name} is to be filled in")', "    return FILLED(x0)")
    names = {"FILLED": lambda y: torch.linalg.eigh(y)}
    exec(compile(filled, "filled", "exec"), names)
    again = names[source.entry]()
    again.load_state_dict(module.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again(x), module(x))


def test_keras_layers_raise_when_called(tmp_path):
    module, read = net()
    source = dlbridge.convert(module, "keras", tmp_path / "out", partial=True, read=read)
    assert source.stand_ins
    assert not (tmp_path / "out" / "certificate.json").exists()
    live = dlbridge.frameworks.get("keras").load(source)
    assert live.output_shape == (None, 4)
    with pytest.raises(NotImplementedError):
        live(np.zeros((1, 4, 4), np.float32))


def test_keras_operations_that_are_not_read():
    inputs = keras.Input((4, 4))
    model = keras.Model(inputs, keras.ops.sum(keras.ops.inv(keras.layers.Dense(4)(inputs)), axis=-1))
    with pytest.raises(UnsupportedOpError, match="Inv"):
        dlbridge.load(model)
    source = dlbridge.convert(model, "pytorch", partial=True)
    assert any("Inv" in what for what in source.stand_ins.values())
    assert dlbridge.frameworks.get("pytorch").load(source) is not None


def test_onnx_ops_of_other_domains():
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Warp", ["a"], ["b"], domain="com.example", name="warp"),
        helper.make_node("Neg", ["b"], ["y"]),
    ]
    typed = [helper.make_tensor_value_info(n, 1, ["batch", 3]) for n in ("x", "y", "b")]
    graph = helper.make_graph(nodes, "g", typed[:1], typed[1:2], value_info=typed[2:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    with pytest.raises(UnsupportedOpError, match=r"Warp of the domain com\.example"):
        dlbridge.frameworks.get("onnx").read(model)
    read = dlbridge.frameworks.get("onnx").read(model, partial=True)
    for framework in ("pytorch", "keras"):
        source = dlbridge.convert(read, framework, partial=True)
        assert list(source.stand_ins.values()) == ["com.example.Warp at warp"]
    onnx.checker.check_model(model)


def test_all_is_written_where_all_is_known():
    source = dlbridge.convert(
        torch.nn.Linear(2, 3), "pytorch", partial=True, read={"inputs": {"input": "float32[n,2]"}}
    )
    assert source.stand_ins == {}


def test_a_stand_in_in_a_file_is_no_op_of_its_own():
    text = """<ir_version: 10, opset_import: ["": 20, "dlbridge.missing": 1]>
        g (float[b, 4] x) => (float[b, 4] y) { y = dlbridge.missing.Sigmoid(x) }"""
    with pytest.raises(UnsupportedOpError, match=r"op Sigmoid of the domain dlbridge\.missing"):
        dlbridge.load(onnx.parser.parse_model(text))
