"""``make bench``: a case that fails stands in its table and ends the benchmarks with an error."""

import json
import re
import runpy
import sys
import types

import pytest

import bench
from bench.cases import Failure, failures, numbers_of
from tests.helpers.paths import ROOT


def run(monkeypatch, rows, *arguments):
    """``python -m bench start`` where that benchmark has these rows; what it exits with."""
    module = types.SimpleNamespace(run=lambda: rows, __doc__="One.")
    monkeypatch.setitem(sys.modules, "bench.start", module)
    monkeypatch.setattr(bench, "start", module, raising=False)
    monkeypatch.setattr(sys, "argv", ["bench", "start", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("bench", run_name="__main__")
    return ended.value.code


def test_a_program_that_fails_says_why(capfd):
    assert numbers_of("print('noise'); print([1.5, 2])") == [1.5, 2]
    assert numbers_of("import os, json; print(json.dumps(os.environ['HERE']))", HERE="x") == "x"
    why = numbers_of("import there_is_no_such_library")
    assert isinstance(why, Failure)
    assert why == "ModuleNotFoundError: No module named 'there_is_no_such_library'"[:60]
    assert "Traceback" in capfd.readouterr().err


def test_a_case_that_fails_ends_the_benchmarks_with_an_error(monkeypatch, capsys):
    fine = [{"case": "one", "seconds": 1.0}, {"case": "other", "seconds": "not installed"}]
    assert run(monkeypatch, fine) == 0
    bad = [*fine, {"case": "third", "seconds": Failure("it broke")}]
    assert failures(bad) == ["third: it broke"]
    assert run(monkeypatch, bad) == 1
    shown = capsys.readouterr()
    assert "start, third: it broke" in shown.err
    assert run(monkeypatch, bad, "--json") == 1
    assert json.loads(capsys.readouterr().out)["start"][2]["seconds"] == "it broke"


def test_make_installs_what_the_benchmarks_import():
    """Each library that a benchmark imports is of the extra ``dev`` or is installed by ``make bench``."""
    rule = re.search(r"^bench: (\S+)", (ROOT / "Makefile").read_text(), re.M).group(1)
    assert rule == ".venv/torchvision"
    recipe = (ROOT / "Makefile").read_text().split(f"\n{rule}:")[1].split("\n\n")[0]
    assert recipe.rstrip().endswith("--no-deps torchvision\n\t@touch $@")
