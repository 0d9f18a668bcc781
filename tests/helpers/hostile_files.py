"""Small files of every kind, harmless, as the tests of hostile strings and the fuzz begin with them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DESCRIPTION: dict[str, Any] = {
    "dlbridge": 1,
    "name": "m",
    "inputs": {"x": {"dtype": "float32", "shape": ["batch", 4]}},
    "initializers": {"scale": {"shape": [3], "init": "ones", "kind": "parameter"}, "two": {"value": [2.0]}},
    "blocks": {
        "part": {
            "parameters": {"width": None},
            "nodes": [{"name": "fc", "op": "Linear", "features": "$width"}, {"op": "Gelu", "approximate": "tanh"}],
        }
    },
    "nodes": [
        {"name": "head", "block": "part", "width": 3, "repeat": 2},
        {"name": "scaled", "op": "Mul", "from": ["head", "scale"]},
        {"name": "doubled", "op": "Mul", "from": ["scaled", "two"]},
        {"name": "noise", "op": "Dropout", "ratio": 0.5},
    ],
    "outputs": {"y": "doubled", "z": "noise"},
    "classes": {"head": "Head"},
    "training": {
        "loss": {"op": "SoftmaxCrossEntropyLoss", "of": "y", "target": "label"},
        "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        "metrics": ["accuracy"],
        "epochs": 1,
    },
}


def onnx_model() -> onnx.ModelProto:
    """A model with a function, a branch, attributes that are words, and all kinds of metadata."""
    weight, bias = (
        numpy_helper.from_array(np.ones(s, np.float32), n) for s, n in (((4, 4), "fc.weight"), ((4,), "fc.bias"))
    )
    branch = helper.make_graph(
        [helper.make_node("Relu", ["g"], ["t"], name="then")], "then_branch", [], [_info("t", ["batch", 4])]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["g"], ["e"], name="else")], "else_branch", [], [_info("e", ["batch", 4])]
    )
    twice = helper.make_function(
        "own",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"], name="add")],
        [helper.make_opsetid("", 20)],
    )
    nodes = [
        helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["h"], name="/block/fc/Gemm", transB=1),
        helper.make_node("Gelu", ["h"], ["g"], name="act", approximate="tanh", doc_string="a node"),
        helper.make_node("If", ["flag"], ["i"], name="branch", then_branch=branch, else_branch=other),
        helper.make_node("Twice", ["i"], ["y"], name="twice", domain="own"),
    ]
    entry = nodes[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", "['', 'block', 'block.fc', 'linear']"
    entry = nodes[0].metadata_props.add()
    entry.key, entry.value = (
        "pkg.torch.onnx.class_hierarchy",
        "['a.M', 'a.Block', 'torch.nn.modules.linear.Linear', 'x']",
    )
    graph = helper.make_graph(
        nodes,
        "net",
        [_info("x", ["batch", 4]), _info("flag", [], TensorProto.BOOL)],
        [_info("y", ["batch", 4])],
        [weight, bias],
    )
    graph.doc_string = "a graph"
    entry = graph.metadata_props.add()
    entry.key, entry.value = "dlbridge.blocks", '{"block": "Block"}'
    entry = graph.value_info.add()
    entry.CopyFrom(_info("h", ["batch", 4]))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=[twice], producer_name="pytorch")
    helper.set_model_props(model, {"key": "value"})
    return model


def _info(name: str, shape: list[int | str], dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def pt2(path: Path) -> Path:
    import torch

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(4, 3)
            self.register_buffer("shift", torch.ones(3))
            self.fixed = torch.arange(3.0)

        def forward(self, picture: torch.Tensor, *, scale: torch.Tensor) -> dict[str, torch.Tensor]:
            y = torch.nn.functional.gelu(self.fc(picture), approximate="tanh") * scale + self.shift
            return {"y": y, "z": y.reshape(-1) + self.fixed.sum()}

    batch = torch.export.Dim("batch", min=2, max=64)
    example = (torch.zeros(3, 4),), {"scale": torch.ones(3, 1)}
    program = torch.export.export(Block(), *example, dynamic_shapes={"picture": {0: batch}, "scale": {0: batch}})
    torch.export.save(program, path)
    return path


def keras_archive(path: Path) -> Path:
    import keras

    x = keras.Input((4,), name="picture")
    y = keras.layers.Dense(3, activation="relu", name="fc")(x)
    y = keras.layers.Reshape((3, 1), name="to_rows")(keras.layers.BatchNormalization(name="norm")(y))
    y = keras.layers.LSTM(2, name="memory")(y)
    keras.Model(x, y, name="net").save(path)
    return path


def replaced(path: Path, target: Path, members: dict[str, bytes]) -> Path:
    """A copy of a zip file with other contents in some of its members (by the end of their names)."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            found = next((data for name, data in members.items() if info.filename.endswith(name)), None)
            new.writestr(info.filename, old.read(info) if found is None else found)
    return target


def member(path: Path, name: str) -> Any:
    """The JSON in a member of a zip file (by the end of its name)."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(next(n for n in archive.namelist() if n.endswith(name))))
