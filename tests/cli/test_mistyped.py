"""What is mistyped or cannot be written is told in one line: what, where, and what was meant."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import dlbridge
from dlbridge import cli, files, npz
from dlbridge.cli import common
from dlbridge.errors import FileError, VerificationError
from dlbridge.training import history
from tests.helpers.onnx_text import save_graph

NET = """import torch
class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(3, 2)
    def forward(self, x):
        return super().forward(x)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "typed.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    return tmp_path


def main(*words):
    """The exit code of the command."""
    sys.argv = ["dlbridge", *words]
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code
    return 0


def _fails(capsys, *words):
    assert main(*words) == 1
    told = capsys.readouterr()
    assert not told.out
    return told.err


@pytest.mark.parametrize(
    "words, what, hint",
    [
        (("typed.py:Nett", "--input", "x[n,3]"), "no attribute 'Nett'", "did you mean 'Net'?"),
        (("typed.py:Net", "--input", "x:flaot32[n,3]"), "'flaot32' is no dtype", "did you mean 'float32'?"),
    ],
)
def test_a_name_is_suggested(folder, capsys, words, what, hint):
    told = _fails(capsys, "convert", *words, "--to", "onnx")
    assert what in told and hint in told


def test_a_folder_of_code_is_said_to_be_code_and_its_hint_works(folder, capsys):
    assert main("convert", "typed.py:Net", "--to", "pytorch", "--input", "x[n,3]", "-o", "out") == 0
    capsys.readouterr()
    told = _fails(capsys, "convert", "out", "--to", "onnx")
    assert "out/model.py:NAME --weights out/weights.pt" in told
    again = ["out/model.py:Net", "--weights", "out/weights.pt", "--input", "x[n,3]"]
    assert main("convert", *again, "--to", "onnx", "-o", "m.onnx") == 0


def test_a_folder_that_is_no_model_says_what_to_do(folder, capsys):
    (folder / "empty").mkdir()
    (folder / "cut").mkdir()
    (folder / "cut" / "config.json").write_text('{"model_type": "llama"')
    assert "name the file of the model" in _fails(capsys, "convert", "empty", "--to", "onnx")
    assert "its config.json is broken" in _fails(capsys, "convert", "cut", "--to", "onnx")


def test_what_would_be_written_beside_a_report_must_be_free_first(folder, capsys):
    (folder / "alone").mkdir()
    for option in ("--reproduce", "--html", "--web", "--certificate"):
        assert "alone: already exists" in _fails(capsys, "verify", "no_such_model.onnx", option, "alone")


def test_a_size_that_no_input_has_is_refused(folder):
    model = dlbridge.load(nn.Linear(3, 2), inputs={"input": "float32[batch,3]"})
    with pytest.raises(dlbridge.DlbridgeError, match="did you mean 'batch'") as raised:
        dlbridge.verify(model, sizes={"batc": 3}, routes=["pytorch"])
    assert "no input has a free size 'batc'" in str(raised.value)


def test_printed_source_is_json_where_that_is_asked_for(folder, capsys):
    assert main("convert", "typed.py:Net", "--to", "keras", "--input", "x[n,3]", "--print", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert "def build_model" in told["source"] and told["to"] == "keras"


def test_what_the_system_refuses_is_no_bug_of_ours(folder, capsys):
    (folder / "file").write_text("")
    told = _fails(capsys, "convert", "typed.py:Net", "--to", "onnx", "--input", "x[n,3]", "-o", "file/m.onnx")
    assert "file" in told and "bug" not in told


def _place_without_writing(folder, monkeypatch):
    (folder / "closed").mkdir()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed" and allowed(path, mode))
    return folder / "closed" / "new", "no files may be written"


def _place_below_a_file(folder, monkeypatch):
    (folder / "file").write_text("")
    return folder / "file" / "new" / "deeper", "is a file, where a folder is needed"


@pytest.mark.parametrize("place", [_place_without_writing, _place_below_a_file])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(folder, monkeypatch, place):
    target, why = place(folder, monkeypatch)
    monkeypatch.setattr("dlbridge.api.load", lambda *_, **__: pytest.fail("it was read"))
    for there in ({"output": target}, {"into": target}):
        with pytest.raises(FileError, match=why):
            dlbridge.convert("no_model.yaml", "onnx", **there)
    with pytest.raises(FileError, match=why):
        files.check_free(target, force=True)


def test_processes_are_of_ray_alone(folder, capsys):
    (folder / "a.csv").write_text("x.0,x.1,x.2,label\n1,2,3,0\n")
    told = ("train", "typed.py:Net", "--input", "x[n,3]", "--data", "a.csv", "--workers", "2")
    assert main(*told) == 2
    assert "--workers is of --on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "--check", "c.json", "--html", "r.html"),
        ("verify", "--check", "c.json", "--input", "x[n,3]"),
        ("verify", "m.onnx", "--batch-run", "out", "--route", "onnx"),
        ("verify", "m.onnx", "--rows", "7"),
        ("run", "typed.py", "typed.py", "-o", "y.npz", "--workers", "2"),
        ("train", "m.onnx", "--data", "typed.py", "--emit", "script", "-o", "run"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(folder, capsys, words):
    assert main(*words) == 2
    assert words[-2] in capsys.readouterr().err.splitlines()[-1]


def test_weights_that_are_drawn_at_each_call_are_the_cause_that_is_named(folder, capsys):
    module = ["typed.py:Net", "--input", "x[n,3]"]
    assert main("convert", *module, "--to", "onnx", "-o", "m.onnx", "--no-verify") == 0
    capsys.readouterr()
    assert main("verify", *module, "m.onnx", "--battery", "quick", "--json") == 1
    hint = json.loads(capsys.readouterr().out)["hint"]
    assert hint.startswith("typed.py:Net makes other weights each time") and "--weights FILE" in hint
    with pytest.raises(VerificationError) as raised:
        dlbridge.verify("m.onnx", "typed.py:Net", read={"inputs": {"x": "[n,3]"}}, battery="quick").require()
    assert raised.value.hint == hint


def test_a_file_of_arrays_says_what_is_wrong_with_it(folder):
    (folder / "text.npz").write_text("no archive")
    np.savez(folder / "objects.npz", x=np.array([{}], dtype=object))
    np.savez(folder / "right.npz", x=np.zeros(3))
    wrong = {"none": "no such file", "text": "no .npz file", "objects": "pickled objects"}
    for name, why in wrong.items():
        with pytest.raises(FileError, match=why):
            npz.read(folder / f"{name}.npz")
    assert npz.read(folder / "right.npz")["x"].shape == (3,)


def test_json_for_machines_has_no_words_of_python(tmp_path, capsys):
    """JSON has no NaN and no infinity; readers beside Python's refuse a document with one."""
    numbers = {"auc": [float("nan"), 0.5], "r2": [float("-inf"), 1.0]}
    common.print_json({"history": numbers})
    history.save(numbers, tmp_path / "history.json")
    wanted = {"auc": [None, 0.5], "r2": [None, 1.0]}
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"history": wanted}
    assert json.loads((tmp_path / "history.json").read_text(), parse_constant=pytest.fail) == wanted


@pytest.mark.parametrize(
    "call, why",
    [
        (lambda model: dlbridge.verify(model, battery="ful"), "no battery 'ful'"),
        (lambda model: dlbridge.verify(model, sizes={"batch": -1}), "-1 is no size"),
        (lambda model: dlbridge.predict(model, {"input": np.zeros((2, 3), "float32")}, batch_size=0), "0 rows"),
        (lambda model: dlbridge.load(model, rename={"input": "x"}), "is read already"),
        (lambda model: dlbridge.convert(model, "onnx", processing="no.yaml"), "no.yaml"),
        (lambda model: model.set_weights({"bias": np.ones(2, "float32"), "weight": np.ones(3, "float32")}), "shape"),
        (lambda model: model.set_weights({"weigth": [1.0]}), "did you mean 'weight'"),
    ],
)
def test_a_wrong_argument_in_python_is_told(call, why):
    model = dlbridge.load(nn.Linear(3, 2), inputs={"input": "float32[batch,3]"})
    before = {name: array.copy() for name, array in model.weights.items()}
    with pytest.raises(dlbridge.DlbridgeError, match=why):
        call(model)
    assert all(np.array_equal(array, before[name]) for name, array in model.weights.items())


def test_a_report_at_the_prompt_is_one_line():
    model = dlbridge.load(nn.Linear(3, 2), inputs={"input": "float32[batch,3]"})
    assert repr(dlbridge.verify(model, routes=["onnx"], battery="quick")) == "<Report of linear: passed, onnx>"


@pytest.mark.parametrize("words, code", [(("nope.onnx", "--to", "onnx"), 1), (("nope.onnx",), 2)])
def test_a_failure_is_a_json_document_too(folder, capsys, words, code):
    assert main("convert", *words, "--json") == code
    told = capsys.readouterr()
    error = json.loads(told.out)["error"]
    assert error["message"] and error["message"] in told.err and error["type"] and {"where", "hint"} <= error.keys()


def test_a_document_that_is_printed_stays_the_only_one(folder, capsys, monkeypatch):
    def command(ctx):
        common.print_json({"done": True})
        raise FileError("too late")

    monkeypatch.setattr(cli.cli, "invoke", command)
    assert main("inspect", "m.onnx", "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"done": True}


def test_letters_that_a_terminal_has_not_are_escaped(tmp_path):
    model = save_graph(tmp_path / "m.onnx", "(float[n] x) => (float[n] y)", "y = Neg(x)")
    words = ["convert", str(model), "--to", "onnx", "-o", str(tmp_path / "模.onnx")]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "1"}
    found = subprocess.run([sys.executable, "-m", "dlbridge", *words], env=environment, capture_output=True, timeout=60)
    assert found.returncode == 0 and b"\\u6a21.onnx" in found.stdout, found


def test_the_folder_that_one_is_in_is_not_replaced(folder, capsys):
    for place in (".", "..", str(folder)):
        words = ("convert", "typed.py:Net", "--input", "x[n,3]", "--to", "keras", "-o", place, "--force")
        assert "this is the current folder" in _fails(capsys, *words)
    assert (folder / "typed.py").exists()


def test_files_to_write_do_nothing_beside_a_printed_source(folder, capsys):
    assert main("convert", "typed.py:Net", "--to", "keras", "--print", "-o", "there") == 2
    assert "-o does nothing beside --print" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "why", "hint"),
    [
        ("w.safetensors", "weights alone", "as its --weights"),
        ("m.weights.h5", "weights alone", "as its --weights"),
        ("model.safetensors.index.json", "weights alone", "as its --weights"),
        ("model", "no suffix that says", "known: .yaml"),
        ("https://example.org/m.onnx", "no such file", "downloads nothing"),
    ],
)
def test_what_is_no_model_says_what_to_do(folder, capsys, name, why, hint):
    if "/" not in name:
        (folder / name).write_bytes(b"x")
    told = _fails(capsys, "inspect", name)
    assert why in told and hint in told


def test_an_input_is_said_once(folder, capsys):
    assert main("convert", "typed.py:Net", "--to", "onnx", "--input", "x[2,3]", "--input", "x[4,3]") == 2
    assert "'x' is there twice" in capsys.readouterr().err
