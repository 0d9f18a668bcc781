"""Constraints on sizes: what their text means, and that they go with the model wherever it goes."""

import json

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import dlbridge
import dlbridge.runtime
from dlbridge.constraints import Expression, broken, fit, parse
from dlbridge.errors import FileError, ShapeError, SignatureError
from dlbridge.ops import traits
from dlbridge.verification.inputs.arrays import random_inputs
from dlbridge.verification.inputs.sizes import fitting_sizes


@pytest.mark.parametrize(
    ("text", "sizes", "value"),
    [
        ("2*n + 1", {"n": 3}, 7),
        ("(h - 1)//2 % 4 == 0", {"h": 9}, True),
        ("1 <= n < 4 and not n == 2", {"n": 3}, True),
        ("max(a, b) - min(a, 2)", {"a": 5, "b": 3}, 3),
        ("n % (m - m) == 0", {"n": 3, "m": 1}, False),
    ],
)
def test_text_is_arithmetic(text, sizes, value):
    assert Expression(text)(sizes) == value


@pytest.mark.parametrize(
    "text",
    [
        *("__import__('os')", "n.real", "n[0]", "f(n)", "n ** 9", "'n'", "1.5*n", "n if n else 1", "True", "max(n)"),
        *("n <=", "", "lambda: n", "(n := 3)", "9" * 2000, "-" * 900 + "n", "min(n, m, key=n)", "n\nm"),
    ],
)
def test_text_that_is_no_arithmetic_is_refused(text):
    with pytest.raises(ValueError):
        Expression(text)


def test_comments_do_not_outlive_the_text():
    assert Expression('n<=4 # """').text == "n <= 4"


def test_sizes_are_the_nearest_that_fit():
    assert fit(parse(["h % 32 == 0", "h >= 40"]), {"h": 6, "b": 2}) == {"h": 64, "b": 2}
    assert fit(parse(["n == 2*m", "n <= 9"]), {"n": 6, "m": 6}) in ({"n": 8, "m": 4}, {"n": 6, "m": 3})
    assert fit(parse(["n <= 4"]), {"m": 1, "n": 1}, {"n": 5}) is None
    assert fit(parse(["((h - 1)//16 + 1)*((w - 1)//16 + 1) > 1"]), {"b": 2, "h": 6, "w": 6})["b"] == 2  # far from 6
    assert broken(parse(["n <= 4", "m < n"]), {"n": 5}).text == "n <= 4"
    assert broken(parse(["m < n"]), {"n": 5}) is None


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(16, 4))

    def forward(self, x, mask):
        if x.shape[1] % 3:
            raise ValueError("a multiple of 3")
        return (x + self.place[: x.shape[1]]) * mask[..., None]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return dlbridge.load(Model(), inputs={"x": "float32[batch,time,4]", "mask": "float32[batch,time]"})


SAID = ["time <= 15", "time % 3 == 0"]


def _said(model):
    return [c.text for c in traits.constraints(model.graph)]


def test_they_go_through_descriptions_files_and_clones(model, tmp_path):
    assert _said(model) == SAID
    assert _said(model.clone()) == SAID
    assert _said(dlbridge.load(model.save(tmp_path / "saved"))) == SAID
    model.to_onnx(tmp_path / "model.onnx")
    assert _said(dlbridge.load(tmp_path / "model.onnx")) == SAID
    for framework in ("pytorch", "keras"):
        assert "For inputs of these sizes: time <= 15, time % 3 == 0." in model.write(framework).text


def test_the_runtime_checks_them(model, tmp_path):
    model.to_onnx(tmp_path / "model.onnx")
    session = dlbridge.runtime.load(tmp_path / "model.onnx")
    assert [c.text for c in session.constraints] == SAID

    def run(time):
        return session(np.ones((2, time, 4), np.float32), np.ones((2, time), np.float32))

    assert run(12)["output"].shape == (2, 12, 4)
    with pytest.raises(SignatureError, match=r"'time' is 18, axis 1 of 'x'; the model takes time <= 15"):
        run(18)
    with pytest.raises(SignatureError, match="the model takes time % 3 == 0"):
        run(4)


def test_the_runtime_checks_arithmetic_on_sizes(tmp_path):
    class Joined(nn.Module):
        def forward(self, x, y):
            return x.cos(), y.cos()

    model = dlbridge.load(Joined(), inputs={"x": "float32[n]", "y": "float32[2*n]"})
    model.to_onnx(tmp_path / "model.onnx")
    session = dlbridge.runtime.load(tmp_path / "model.onnx")
    session(np.ones(3, np.float32), np.ones(6, np.float32))
    with pytest.raises(SignatureError, match=r"axis 0 is 5, not 2\*n = 6"):
        session(np.ones(3, np.float32), np.ones(5, np.float32))


def test_a_file_whose_constraints_are_none_is_refused(model, tmp_path):
    proto = ir.to_proto(model.to_onnx())
    for text in ("[", "[\"__import__('os')\"]", "[3]", json.dumps(["n" * 5000])):
        next(p for p in proto.metadata_props if p.key == traits.CONSTRAINTS).value = text
        (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
        with pytest.raises(FileError, match="no list of constraints"):
            dlbridge.load(tmp_path / "model.onnx")
        with pytest.raises(FileError, match="no list of constraints"):
            dlbridge.runtime.load(tmp_path / "model.onnx")


def test_verification_keeps_them(model):
    assert fitting_sizes(model, {"batch": 7}) == {"batch": 7, "time": 6}
    assert random_inputs(model, {"batch": 2, "time": 9})["x"].shape == (2, 9, 4)
    with pytest.raises(ShapeError, match="time <= 15"):
        random_inputs(model, {"time": 7})
    report = dlbridge.verify(model, routes=["pytorch", "onnx"], sizes={"time": 3})
    assert report.passed
    assert {c.sizes["time"] for c in report.checks} == {3}


def test_the_batch_of_verification_keeps_them_too():
    class Pairs(nn.Module):
        def forward(self, x):
            return x.view(x.shape[0] // 2, 2, 3).cos()

    model = dlbridge.load(Pairs(), inputs={"x": "float32[batch,3]"})
    assert _said(model) == ["batch % 2 == 0"]
    report = dlbridge.verify(model, routes=["pytorch", "onnx"])
    assert report.passed
    assert all(c.sizes["batch"] % 2 == 0 for c in report.checks)
