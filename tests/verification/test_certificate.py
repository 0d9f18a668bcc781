"""The certificate has what was verified and on what, is valid by its schema, and can be checked again."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import dlbridge
from dlbridge import api
from dlbridge.cli import cli
from dlbridge.errors import FileError
from dlbridge.verification import certificate as certificates
from dlbridge.verification.figures import figures

ROOT = Path(__file__).parents[2]
READ = {"inputs": {"input": "float32[batch,4]"}}


@pytest.fixture
def file(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)).eval()
    dlbridge.load(module, **READ).to_onnx(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def call(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def test_the_schema_is_that_of_the_code():
    kept = json.loads((ROOT / certificates.SCHEMA_FILE).read_text())
    hint = f"run: python -m dlbridge schema certificate > {certificates.SCHEMA_FILE}"
    assert kept == certificates.json_schema(), hint


def test_a_conversion_has_one_that_can_be_checked(file, tmp_path):
    dlbridge.convert(file, "pytorch", tmp_path / "out")
    path = tmp_path / "out" / "certificate.json"
    found = certificates.read(path)
    assert found.passed
    assert found.request.to == "pytorch"
    assert found.routes["pytorch"].argmax == 1.0
    assert 0 <= found.routes["pytorch"].ulps < 64
    now, changed = api.check(path)
    assert now.passed
    assert changed == []


def test_what_has_changed_is_told(file, tmp_path):
    path = tmp_path / "certificate.json"
    done = call("verify", file, "--route", "pytorch", "--battery", "quick", "--certificate", path)
    assert done.exit_code == 0, done.output
    done = call("verify", "--check", path)
    assert (done.exit_code, done.stdout.splitlines()[0].partition("; ")[2]) == (0, "nothing has changed"), done.output
    changed = json.loads(path.read_text())
    changed["versions"]["numpy"] = "1.0"
    changed["hashes"]["weights"] = "0" * 64
    changed["passed"] = False
    path.write_text(json.dumps(changed))
    lines = call("verify", "--check", path).stdout
    assert "the verdict: it departs, and agrees now" in lines
    assert "the weights of the model are others" in lines
    assert "numpy was 1.0" in lines


def test_what_is_no_certificate_is_refused(tmp_path):
    path = tmp_path / "c.json"
    for text in ("", "[]", '{"version": 1, "model": 3}', '{"passed": true}'):
        path.write_text(text)
        with pytest.raises(FileError, match="it is no certificate"):
            api.check(path)
    with pytest.raises(FileError, match="cannot be read"):
        api.check(tmp_path / "nothing.json")


def test_hashes_tell_weights_and_nodes_apart():
    module = nn.Sequential(nn.Linear(4, 5), nn.ReLU()).eval()
    model = dlbridge.load(module, **READ)
    other = model.clone()
    other.set_weights({"0.bias": model.weights["0.bias"] + 1})
    third = dlbridge.load(nn.Sequential(module[0], nn.Tanh()).eval(), **READ)
    assert certificates.hash_graph(model) == certificates.hash_graph(other) != certificates.hash_graph(third)
    assert certificates.hash_weights(model) == certificates.hash_weights(third) != certificates.hash_weights(other)


def test_figures_are_those_that_people_know():
    judged = np.array([[1.0, 2.0, 4.0], [100.0, 1.0, 100.0000001]], np.float32)
    output = judged.copy()
    output[0, 0] += np.float32(0.04)
    output[1, 0] += np.float32(1e-3)
    found = figures(output, judged, 1e-5)
    assert found.by_row == pytest.approx(0.01, rel=1e-3)
    assert found.ulps == pytest.approx(0.04 / np.finfo(np.float32).eps, rel=1e-3)
    assert (found.argmax, found.ties) == (1.0, 1)
    output[0, 0] = 9
    assert figures(output, judged, 1e-5).argmax == 0.5
