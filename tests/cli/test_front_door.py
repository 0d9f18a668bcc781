"""What a user types first: a model of the user's own file, and options that are mistyped or misplaced."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import dlbridge
from dlbridge import frameworks
from dlbridge.cli import common
from dlbridge.errors import DlbridgeError, DlbridgeWarning
from dlbridge.frameworks.options import check_option

NET = """import torch
from helpers import WIDTH
class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(3, WIDTH)
"""
SPEC = {"input": "float32[batch,3]"}


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """Files of the user's in the current folder, which is on no path yet."""
    (tmp_path / "helpers.py").write_text("WIDTH = 2\n")
    (tmp_path / "mynet.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) & {"helpers", "mynet", "mynet_file", "nested_net"} - before:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["mynet:Net", "mynet.py:Net"])
def test_a_model_of_the_current_folder(own_files, name):
    model = dlbridge.load(name, inputs=SPEC)
    assert model.name == "Net"
    assert [str(v.shape) for v in model.outputs] == ["[batch,2]"]


def test_a_model_of_a_file_elsewhere(own_files, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert dlbridge.load(f"{own_files}/mynet.py:Net", inputs=SPEC).name == "Net"


def test_a_file_of_a_project_imports_from_the_project_s_top(own_files):
    (own_files / "models").mkdir()
    (own_files / "models" / "nested_net.py").write_text("import helpers\nfrom mynet import Net\n")
    assert dlbridge.load("models/nested_net.py:Net", inputs=SPEC).name == "Net"


def test_the_installed_command_finds_a_file_of_the_current_folder(own_files):
    program = "import sys; sys.path = [p for p in sys.path if p]; from dlbridge.cli import main; main()"
    here = Path(dlbridge.__file__).parent.parent
    call = [sys.executable, "-P", "-c", program, "inspect", "mynet:Net", "--input", "input:float32[batch,3]"]
    done = subprocess.run(
        call, env={**os.environ, "PYTHONPATH": str(here)}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Linear" in done.stdout


def test_a_file_of_the_current_folder_takes_no_package_s_place(own_files):
    (own_files / "json.py").write_text("raise SystemExit('this ran')\n")
    with pytest.raises(DlbridgeError, match="no attribute"):
        dlbridge.load("json:no_such_thing")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_such_file.py:Net", "there is no file"),
        ("no_such_package:Net", "No module named 'no_such_package'"),
        ("mynet.py:Other", "has no attribute 'Other'"),
    ],
)
def test_a_name_that_is_not_there_is_an_error_with_a_hint(own_files, name, why):
    with pytest.raises(DlbridgeError, match=why) as caught:
        dlbridge.load(name, inputs=SPEC)
    assert caught.value.where == name
    assert "mynet.py:Net" in caught.value.hint


def _linear():
    return torch.nn.Linear(3, 2).eval()


def test_an_option_that_the_reader_does_not_take_is_named():
    with pytest.raises(DlbridgeError, match="takes no option 'input' to read") as caught:
        dlbridge.load(_linear(), input=SPEC)
    assert "inputs" in caught.value.hint


def test_an_option_that_the_writer_does_not_take_is_named():
    with pytest.raises(DlbridgeError, match="takes no option 'opset' to write"):
        dlbridge.convert(dlbridge.load(_linear(), inputs=SPEC), "pytorch", opset=17)


def test_an_option_of_the_reader_that_is_given_to_the_writer_is_sent_where_it_belongs():
    with pytest.raises(DlbridgeError, match="takes no option 'inputs'") as caught:
        dlbridge.convert(_linear(), "pytorch", inputs=SPEC)
    assert "read={'inputs': ...}" in caught.value.hint


@pytest.mark.parametrize(
    ("to", "options", "why", "hint"),
    [
        ("keras", {"io_layout": "nativ"}, "is 'same' or 'native', not 'nativ'", "did you mean 'native'"),
        ("onnx", {"opset": "17"}, "is int or None, not '17'", "Opset of the file"),
        ("onnx", {"opset": True}, "is int or None, not True", "Opset of the file"),
        ("onnx", {"opset": [17]}, "is int or None, not a list", "Opset of the file"),
        ("onnx", {"opst": 17}, "takes no option 'opst'", "did you mean 'opset'"),
        ("description", {"opset": 17}, "takes no option 'opset'", None),
    ],
)
def test_an_option_of_another_type_or_name_is_told_before_any_work(to, options, why, hint):
    with pytest.raises(DlbridgeError, match=why) as caught:
        dlbridge.convert("no such model", to, **options)
    assert hint is None or hint in caught.value.hint


def test_numbers_of_numpy_are_numbers():
    assert frameworks.get("onnx").write_options({"opset": np.int64(17)}).opset == 17


@pytest.mark.parametrize("framework", frameworks.all_frameworks(), ids=lambda f: f.name)
def test_every_option_has_a_sentence_of_help_and_a_default_of_its_type(framework):
    for declared in (framework.ReadOptions, framework.WriteOptions):
        for option in frameworks.declared(declared):
            check_option(option, option.default, framework.name)
            assert option.help.endswith(".")


def test_a_file_of_code_asks_for_a_name(own_files):
    with pytest.raises(DlbridgeError, match=r"mynet\.py: a file of Python code is no model(.|\n)*mynet\.py:NAME"):
        dlbridge.load("mynet.py")


def test_a_warning_is_a_line_for_a_person(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "warnoptions", [])
    common.quiet_frameworks()
    warnings.warn("the names begin with 'module.'", DlbridgeWarning, stacklevel=1)
    warnings.warn("what the libraries say", FutureWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: the names begin with 'module.'\n"


def test_a_size_that_the_code_refuses_is_told_once(own_files):
    logged = []
    handler = logging.Handler()
    handler.emit = logged.append
    logger = logging.getLogger("torch.export._trace")
    logger.addHandler(handler)
    try:
        with pytest.raises(DlbridgeError, match="cannot export it"):
            dlbridge.load("mynet:Net", inputs={"input": "float32[batch,4]"})
    finally:
        logger.removeHandler(handler)
    assert not logged
