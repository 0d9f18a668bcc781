"""``dlbridge verify --on ray``: the same report, with the routes run by workers (``make scale``)."""

import json

import pytest
from click.testing import CliRunner

from dlbridge.cli.verify import command
from tests.helpers.paths import ROOT

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow
MODEL = str(ROOT / "examples" / "cnn_digits.yaml")


def _verified(*arguments):
    result = CliRunner().invoke(command, [*arguments, "--json"])
    return result, json.loads(result.stdout)


def test_the_report_is_the_same():
    _, here = _verified(MODEL, "--battery", "quick")
    _, there = _verified(MODEL, "--battery", "quick", "--on", "ray")
    assert here["passed"] and there["passed"]
    assert not there["failures"] and there["left_out"] == here["left_out"]
    first, second = (sorted((c["route"], c["inputs"]) for c in report["checks"]) for report in (here, there))
    assert first == second and len({route for route, _ in first}) >= 4
    assert not ray.is_initialized()  # the cluster of this machine was begun for it, and ends with it


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
