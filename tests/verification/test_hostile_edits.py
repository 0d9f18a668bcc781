"""Edits of written files by which somebody would try to get past a verification: each is found, at its node."""

import dataclasses

import numpy as np
import pytest

import dlbridge
from dlbridge import description
from dlbridge.verification import verify

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.pytorch


def read(forward, **inputs):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = torch.nn.Embedding(50, 4), torch.nn.Embedding(64, 4)
            self.q, self.k = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    torch.manual_seed(0)
    Net.forward = forward
    return dlbridge.load(Net().eval(), inputs=inputs)


def attending(self, tokens, mask):
    x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
    s = self.q(x) @ self.k(x).transpose(1, 2)
    return torch.softmax(s.masked_fill(~mask[:, None], -1e9), -1) @ x


def rounding(self, x):
    return torch.round(x * 2), torch.nn.functional.softplus(x), x / (x.abs().sum(-1, keepdim=True) + 1e-9)


def choosing(self, x, mask):
    return torch.where(mask & (x > 0.5), x, -x)


def counting(self, n, m):
    return n * 3 + m, (n * m) & 1023, torch.clamp(n, -3, 12)


TOKENS = {"tokens": "int64[batch,1<=length<=64]", "mask": "bool[batch,length]"}
#: (model, inputs, what is printed, what it is changed to, the node)
EDITS = {
    "positions beyond 40": (attending, TOKENS, "self.places(x)", "self.places(x.clamp(max=40))", "places"),
    "the last position": (attending, TOKENS, "self.places(x)", "self.places(x.clamp(max=62))", "places"),
    "one weight for two": (attending, TOKENS, "self.q(", "self.k(", "q"),
    "a row of a table": (attending, TOKENS, "self.words(tokens)", "self.words(tokens + (tokens == 31))", "words"),
    "half up": (rounding, {"x": "float32[batch,4]"}, "torch.round(out)", "torch.floor(out + 0.5)", "round"),
    "a threshold": (rounding, {"x": "float32[batch,4]"}, "softplus(x)", "softplus(x, threshold=6)", "softplus"),
    "an epsilon": (rounding, {"x": "float32[batch,4]"}, "1e-09", "1e-07", "add"),
    "a mask": (
        *(choosing, {"x": "float32[batch,4]", "mask": "bool[batch,4]"}),
        *("x > 0.5", "x > 0.25", "greater"),
    ),
    "fewer bits": (counting, {"n": "int32[batch,4]", "m": "int32[batch,4]"}, "& 1023", "& 511", "bitwiseand"),
    "half of the type": (
        *(counting, {"n": "int32[batch,4]", "m": "int32[batch,4]"}),
        *(" + m", " + m.to(torch.int16).to(torch.int32)", "add"),
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_of_a_written_file_is_found(what, tmp_path):
    forward, inputs, old, new, node = EDITS[what]
    model = read(forward, **inputs)
    source = model.write("pytorch")
    assert old in source.text, source.text
    source.save(tmp_path / "right")
    dataclasses.replace(source, text=source.text.replace(old, new, 1)).save(tmp_path / "wrong")
    assert dlbridge.verify(model, tmp_path / "right").passed
    report = dlbridge.verify(model, tmp_path / "wrong")
    assert not report.passed
    (departure,) = report.departures.values()
    found = next(n for n in model.graph if n.name == departure.node)
    before = {value.producer().name for value in found.inputs if value is not None and value.producer() is not None}
    assert node in {found.name, *before}, departure.text


def test_another_weight_in_a_saved_folder_is_found(tmp_path):
    text = "dlbridge: 1\nname: words\ninputs: {tokens: {dtype: int64, shape: [batch, 4]}}\n"
    text += "nodes: [{name: words, op: Embedding, count: 5000, size: 6}]\noutputs: {y: words}\n"
    model = description.load(text)
    name = next(iter(model.weights))
    table = np.array(model.weights[name])
    table[2718, 2] += 0.5
    wrong = model.clone()
    wrong.set_weights({name: table})
    model.write("pytorch").save(tmp_path / "right")
    wrong.write("pytorch").save(tmp_path / "wrong")
    assert verify(model, others={"saved": tmp_path / "right"}, battery="quick").passed
    report = verify(model, others={"saved": tmp_path / "wrong"}, battery="quick")
    assert "the first at [2718, 2]" in report.worst()["saved"].reason


def test_an_input_that_decides_a_size_gets_no_large_numbers():
    from dlbridge.verification.inputs.roles import roles

    class Net(torch.nn.Module):
        def forward(self, x, n):
            return x + n, x.sum() + torch.arange(n.item())[:1].sum()

    net = torch.export.export(Net(), (torch.zeros(3), torch.tensor(4)), strict=False)
    model = dlbridge.load(net)
    assert [role.decides_sizes for role in roles(model, {}) if role.is_integer] == [True]
