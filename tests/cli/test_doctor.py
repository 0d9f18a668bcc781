"""``dlbridge doctor``, and ``dlbridge inspect --coverage``: what can be done here, and with this model."""

import json
import sys

import pytest
import torch

import dlbridge
from dlbridge import cli, coverage, frameworks
from dlbridge.cli import doctor
from dlbridge.errors import DlbridgeError


def _run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["dlbridge", *arguments])
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr().out


def test_the_doctor_says_what_is_installed_and_works(monkeypatch, capsys):
    code, out = _run(monkeypatch, capsys, "doctor", "--json")
    found = json.loads(out)
    assert code == 0 and found["troubles"] == []
    assert {row["name"] for row in found["frameworks"]} == set(frameworks.names())
    torch_row = next(row for row in found["frameworks"] if row["name"] == "pytorch")
    assert torch_row["works"] and torch_row["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert "CPUExecutionProvider" in found["providers"]
    code, out = _run(monkeypatch, capsys, "doctor")
    assert code == 0 and "providers of onnxruntime" in out


def test_a_framework_that_cannot_be_imported_is_a_trouble(monkeypatch, capsys):
    monkeypatch.setattr(type(frameworks.get("nnx")), "packages", ("rich", "click.no_such_module"))
    monkeypatch.setattr(doctor, "_version", lambda package: "1")
    code, out = _run(monkeypatch, capsys, "doctor", "--json")
    assert code == 1
    assert "nnx: importing it fails: ModuleNotFoundError" in json.loads(out)["troubles"][0]


def test_a_package_that_is_not_installed_beside_its_framework_is_a_trouble(monkeypatch):
    monkeypatch.setattr(type(frameworks.get("nnx")), "packages", ("rich", "no-such-package"))
    assert any("no-such-package is not installed beside it" in text for text in doctor.examine()["troubles"])


def test_a_framework_that_is_not_installed_is_no_trouble(monkeypatch):
    monkeypatch.setattr(type(frameworks.get("nnx")), "packages", ("no_such_package",))
    found = doctor.examine()
    assert found["troubles"] == []
    row = next(row for row in found["frameworks"] if row["name"] == "nnx")
    assert not row["installed"] and "dlbridge[nnx]" in row["install"]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)

    def forward(self, x):
        y = self.fc(x)
        return torch.linalg.eigvalsh(y @ y.mT) + 1


def test_what_cannot_be_read_is_listed_with_its_place():
    found = coverage.report(Net().eval(), inputs={"x": "float32[batch,4,4]"})
    assert not found.reading.supported
    assert len(found.reading.refused) == 1 and "test_doctor.py" in found.reading.refused[0]
    assert found.ops["Add"] == 1
    assert found.targets["keras"].refused == []
    json.dumps(found.to_json())


def test_what_a_target_cannot_write_is_listed(monkeypatch):
    nnx = frameworks.get("nnx")
    rules = nnx.part("coverage").coverage().writes
    monkeypatch.delitem(rules, ("", "Relu"))
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()).eval()
    found = coverage.report(module, inputs={"input": "float32[batch,3]"})
    assert found.reading.supported and found.targets["keras"].supported
    assert not found.targets["nnx"].supported
    assert "Relu" in str(found.targets["nnx"])


def test_a_model_that_cannot_be_read_at_all_is_an_error():
    with pytest.raises(DlbridgeError, match="no such file"):
        coverage.report("nowhere.onnx")


def test_the_report_is_printed(monkeypatch, capsys, tmp_path):
    dlbridge.load(torch.nn.Linear(3, 2), inputs={"input": "float32[b,3]"}).save(tmp_path / "m")
    code, out = _run(monkeypatch, capsys, "inspect", str(tmp_path / "m"), "--coverage")
    assert code == 0 and "to keras: all of it" in out
    code, out = _run(monkeypatch, capsys, "inspect", str(tmp_path / "m"), "--coverage", "--json")
    assert json.loads(out)["reading"]["supported"]
