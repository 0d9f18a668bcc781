"""``dlbridge verify --on ray``: the same report, with the routes run by workers (``make scale``)."""

import json

import pytest
from click.testing import CliRunner

from dlbridge.cli.verify import command
from tests.helpers.paths import ROOT

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
MODEL = str(ROOT / "examples" / "cnn_digits.yaml")


def _verified(*arguments):
    result = CliRunner().invoke(command, [*arguments, "--json"])
    return result, json.loads(result.stdout)


def test_the_report_is_the_same():
    _, here = _verified(MODEL, "--battery", "quick")
    _, there = _verified(MODEL, "--battery", "quick", "--on", "ray")
    assert here["passed"] and there["passed"]
    assert there["routes"].keys() == here["routes"].keys() and len(there["routes"]) >= 4
    for name, route in here["routes"].items():
        assert there["routes"][name]["largest_error"] == pytest.approx(route["largest_error"], rel=0.5, abs=1e-7)


NET = """
import os, torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(os.getpid())
        self.fc = torch.nn.Linear(3, 2)
    def forward(self, x):
        return self.fc(x)
"""


def test_a_model_that_is_another_one_each_time_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynet.py").write_text(NET)
    result, report = _verified("mynet.py:Net", "--input", "x:float32[batch,3]", "--battery", "quick", "--on", "ray")
    assert result.exit_code == 1
    assert "another one each time" in json.dumps(report)
