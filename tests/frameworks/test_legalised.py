"""Passes that legalise a model for a framework: what they make of the graph, and that the code is still right."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge import frameworks
from dlbridge.passes.pipeline import dump_after

KERAS, PYTORCH = frameworks.get("keras"), frameworks.get("pytorch")


class Recurrent(nn.Module):
    """A recurrent layer of which one thing is read."""

    def __init__(self, kind: type[nn.RNNBase], reads: str, **options: Any) -> None:
        super().__init__()
        self.rnn, self.reads = kind(4, 5, **options), reads

    def forward(self, x: torch.Tensor) -> Any:
        y, states = self.rnn(x)
        h = states[0] if isinstance(states, tuple) else states
        match self.reads:
            case "the last state":
                return h[-1]
            case "both directions joined":
                return torch.cat([h[-2], h[-1]], 1)
            case "everything":
                return y, h
        return y


CASES = {
    "the last of two directions": (nn.GRU, "the last state", {"bidirectional": True}),
    "two directions, joined": (nn.LSTM, "both directions joined", {"bidirectional": True, "batch_first": True}),
    "two layers": (nn.LSTM, "the sequence", {"num_layers": 2}),
    "the time first": (nn.LSTM, "everything", {}),
    "the batch first": (nn.RNN, "everything", {"batch_first": True}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("framework", [KERAS, PYTORCH], ids=lambda framework: framework.name)
def test_recurrent_layers_give_what_the_graph_makes_of_them(framework: Any, case: str) -> None:
    kind, reads, options = CASES[case]
    torch.manual_seed(0)
    module, x = Recurrent(kind, reads, **options).eval(), torch.randn(3, 2, 4)
    source = framework.write(dlbridge.load(module, inputs=(x,), dynamic={}))
    assert "onnx_outputs" not in source.text
    expected = module(x)
    got = framework.run(framework.load(source), {source.inputs[0]: x.numpy()})
    for found, wanted in zip(got.values(), expected if isinstance(expected, tuple) else (expected,), strict=True):
        np.testing.assert_allclose(found, wanted.detach().numpy(), atol=1e-5)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(self.rnn(x)[0])[0]


def test_a_recurrent_layer_that_is_called_twice_is_one_layer() -> None:
    torch.manual_seed(0)
    module, x = Twice().eval(), torch.randn(2, 3, 4)
    live = dlbridge.load(module, inputs=(x,)).to_pytorch()
    live.load_state_dict(module.state_dict(), strict=True)
    torch.testing.assert_close(live(x), module(x))


def _graph_after(name: str, framework: Any, model: dlbridge.Model, folder: Any) -> list[onnx.NodeProto]:
    with dump_after(name, folder / "dumped.onnx"):
        framework.write(model)
    return list(onnx.load(folder / "dumped.onnx").graph.node)


def test_the_passes_of_pytorch_are_dumped(tmp_path: Any) -> None:
    module = Recurrent(nn.LSTM, "the sequence", batch_first=True).eval()
    model = dlbridge.load(module, inputs=(torch.randn(2, 3, 4),))
    node = next(n for n in _graph_after("write.recurrent_layers", PYTORCH, model, tmp_path) if n.op_type == "LSTM")
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    assert (node.domain, node.op_type) == ("dlbridge.pytorch", "LSTM")
    assert (given["batch_first"], given["gives"]) == (1, b"layer")


def test_the_passes_of_keras_are_dumped(tmp_path: Any) -> None:
    x = keras.Input((8, 8, 3))
    y = keras.layers.Conv2D(4, 3, activation="relu", name="first")(x)
    z = keras.layers.Add(name="sum")([y, keras.layers.ReLU(name="other")(y)])
    model = dlbridge.load(keras.Model(x, keras.layers.GlobalAveragePooling2D(name="pool")(z)))
    fused = _graph_after("fuse", KERAS, model, tmp_path)
    said = {n.op_type: {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute} for n in fused}
    assert said["Conv"]["activation"] == b"relu" and said["GlobalAveragePool"]["keepdims"] == 0
    merged = _graph_after("merging_layers", KERAS, model, tmp_path)
    assert ("dlbridge.keras", "Add") in {(node.domain, node.op_type) for node in merged}
