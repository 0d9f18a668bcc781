"""Modules that were wrapped to run, and TorchScript."""

import pytest
import torch
from torch import nn

import dlbridge
from dlbridge.errors import DlbridgeError, DlbridgeWarning

INPUTS = {"input": "float32[batch,3]"}
WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "OptimizedModule": torch.compile,
    "DataParallel and OptimizedModule": lambda module: nn.DataParallel(torch.compile(module)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_module_within_is_read_with_a_word(name):
    with pytest.warns(DlbridgeWarning, match=f"within {name} is read"):
        model = dlbridge.load(WRAPPERS[name](nn.Linear(3, 2)), inputs=INPUTS)
    assert list(model.graph.initializers) == ["weight", "bias"]
    assert [v.name for v in model.inputs] == ["input"]


@pytest.mark.parametrize("make", [torch.jit.script, lambda module: torch.jit.trace(module, torch.ones(1, 3))])
def test_torchscript_is_refused_with_what_to_do(make, tmp_path):
    script = make(nn.Linear(3, 2).eval())
    torch.jit.save(script, tmp_path / "m.pt")
    for source in (script, tmp_path / "m.pt"):
        with pytest.raises(DlbridgeError, match="TorchScript") as caught:
            dlbridge.load(source, **({"inputs": INPUTS} if source is script else {}))
        assert "torch.onnx.export" in caught.value.hint


def test_the_way_that_the_refusal_of_torchscript_names_works(tmp_path):
    script = torch.jit.trace(nn.Linear(3, 2).eval(), torch.ones(1, 3))
    torch.onnx.export(script, (torch.ones(1, 3),), tmp_path / "m.onnx", dynamo=False)
    model = dlbridge.load(tmp_path / "m.onnx", inputs={dlbridge.load(tmp_path / "m.onnx").inputs[0].name: "[batch,3]"})
    assert [str(v.shape) for v in model.outputs] == ["[batch,2]"]
