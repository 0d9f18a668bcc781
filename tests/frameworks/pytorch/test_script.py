"""TorchScript: live modules, and files of it where their code is trusted."""

import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge.errors import DlbridgeError, FileError, SignatureError
from dlbridge.verification import verify

pytestmark = pytest.mark.filterwarnings("ignore")
INPUTS = {"x": "float32[batch,3,h,w]"}


class Deciding(nn.Module):
    """What it does depends on a number and on a size."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        if x.shape[0] > 4:
            x = x * 2
        if bool(x.mean() > 100):
            x = x - 1
        return self.head(x.mean((2, 3)))


MAKES = {
    "scripted": torch.jit.script,
    "traced": lambda module: torch.jit.trace(module, torch.rand(2, 3, 8, 8)),
    "frozen": lambda module: torch.jit.freeze(torch.jit.script(module)),
}


@pytest.mark.parametrize("name", MAKES)
def test_a_script_is_read(name, tmp_path):
    torch.manual_seed(0)
    script = MAKES[name](Deciding().eval())
    torch.jit.save(script, tmp_path / "m.pt")
    x = torch.rand(6, 3, 5, 7)
    for source, options in ((script, {}), (tmp_path / "m.pt", {"trust_code": True})):
        model = dlbridge.load(source, inputs=INPUTS, **options)
        assert [str(v.shape) for v in model.inputs] == ["[batch,3,h,w]"]
        np.testing.assert_allclose(model.to_pytorch()(x).detach(), script(x).detach(), atol=1e-6)
    assert verify(model, routes=["pytorch", "onnx"], battery="quick", train_steps=None).passed


def test_a_file_of_code_is_read_where_it_is_trusted(tmp_path):
    torch.jit.save(torch.jit.script(Deciding().eval()), tmp_path / "m.pt")
    with pytest.raises(FileError, match="code") as caught:
        dlbridge.load(tmp_path / "m.pt", inputs=INPUTS)
    assert "--trust-code" in caught.value.hint


def test_what_a_script_does_not_say_is_asked_for():
    script = torch.jit.script(Deciding().eval())
    with pytest.raises(SignatureError, match="sizes") as caught:
        dlbridge.load(script)
    assert "--input 'x:" in caught.value.hint
    with pytest.raises(SignatureError, match="no input 'y'"):
        dlbridge.load(script, inputs={"y": "float32[2,3,8,8]"})


def test_what_onnx_has_no_word_for_is_named():
    class Sorting(nn.Module):
        def forward(self, x):
            return torch.linalg.qr(x)[0]

    with pytest.raises(DlbridgeError, match="linalg_qr"):
        dlbridge.load(torch.jit.script(Sorting()), inputs={"x": "float32[3,3]"})


def test_a_script_within_a_python_module_is_named():
    module = nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Linear(4, 2)))
    with pytest.raises(DlbridgeError, match="1: this part is a TorchScript module"):
        dlbridge.load(module, inputs={"input": "float32[batch,4]"})
