"""Functions and classes of the user's that make a model: their arguments, and what they return."""

import sys

import numpy as np
import pytest
import torch

import dlbridge
from dlbridge import factories
from dlbridge.errors import DlbridgeError

NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self, inputs, hidden=4, *, act="ReLU"):
        super().__init__()
        self.one, self.act = torch.nn.Linear(inputs, hidden), getattr(torch.nn, act)()

    def forward(self, x, scale):
        return self.act(self.one(x)) * scale


def make(inputs=3, **more):
    return Net(inputs, **more)


def with_example(dtype="float32"):
    return Net(3).to(getattr(torch, dtype)), (torch.ones(5, 3, dtype=getattr(torch, dtype)), torch.ones(1))


def with_names():
    return Net(3), {"x": torch.ones(5, 3), "scale": torch.ones(1)}


def with_text():
    return Net(3), {"x": "float32[rows,3]", "scale": "float32[1]"}


def of_ids():
    return torch.nn.Embedding(9, 4), torch.ones(5, 7, dtype=torch.int64)


def with_more():
    return Net(3), None, "tokenizer"


def broken(size: int = 3):
    return Net(size, act="NoSuch")


INSTANCE = torch.nn.Linear(3, 2)
"""
INPUTS = {"x": "[batch,3]", "scale": "[1]"}


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "zoo.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield "pkg.zoo"
    for name in {n for n in sys.modules if n.split(".")[0] == "pkg"} - before:
        del sys.modules[name]


def _shapes(model):
    return [str(v.shape) for v in (*model.inputs, *model.outputs)]


def test_a_function_of_a_package_in_the_current_folder_takes_arguments(zoo):
    model = dlbridge.load(f"{zoo}:make", arguments={"hidden": 6, "act": "Tanh"}, inputs=INPUTS)
    assert _shapes(model) == ["[batch,3]", "[1]", "[batch,6]"]
    assert [n.op_type for n in model.graph if n.name == "act"] == ["Tanh"]


@pytest.mark.parametrize(
    ("name", "arguments", "why", "hint"),
    [
        ("Net", {}, "without 'inputs'", "--arg inputs=VALUE"),
        ("Net", {"inputs": 3, "hiden": 6}, "no argument 'hiden'", "did you mean 'hidden'"),
        ("Net", {"inputs": 3, "zzz": 6}, "no argument 'zzz'", "it takes: inputs, hidden, act"),
        ("INSTANCE", {"bias": True}, "takes no arguments", None),
        ("broken", {}, "raised AttributeError: .*NoSuch", None),
        ("with_more", {}, "a tuple of Net, NoneType, str", "example inputs"),
    ],
)
def test_arguments_that_do_not_fit_are_named(zoo, name, arguments, why, hint):
    with pytest.raises(DlbridgeError, match=why) as caught:
        dlbridge.load(f"{zoo}:{name}", arguments=arguments, inputs=INPUTS)
    assert hint is None or hint in caught.value.hint


def test_an_error_of_the_user_s_code_says_its_line(zoo):
    with pytest.raises(DlbridgeError) as caught:
        dlbridge.load(f"{zoo}:broken")
    assert "zoo.py:" in caught.value.where


@pytest.mark.parametrize(
    "code, what, line, hint",
    [
        ("x = 1\nraise KeyError('data')", "importing it raised KeyError: 'data'", 2, None),
        ("x = 1\n\nclass Net(:\n", "importing it raised SyntaxError: invalid syntax", 3, None),
        ("import json\njson.loads('{')", "importing it raised JSONDecodeError", 2, None),
        ("import sys\nsys.exit('usage')", "importing it raised SystemExit: usage", 2, None),
        ("import no_such_package", "No module named 'no_such_package'", 1, f"dlbridge, {sys.executable}"),
        ("from . import layers", "relative import", 1, "package.module:Net"),
        ("from math import no_such", "cannot import name 'no_such'", 1, "package.module:Net"),
    ],
)
def test_an_error_of_importing_the_user_s_file_says_its_line(tmp_path, code, what, line, hint):
    file = tmp_path / "broken.net.py"
    file.write_text(code)
    with pytest.raises(DlbridgeError) as caught:
        dlbridge.load(f"{file}:Net")
    assert what in caught.value.message
    assert caught.value.where == f"{file}:Net ({file}:{line})"
    assert (caught.value.hint or "").endswith(hint or "")


def test_what_a_function_makes_that_is_no_model_is_named_with_it(tmp_path):
    (tmp_path / "none.py").write_text("def make(): pass")
    with pytest.raises(DlbridgeError, match="it makes a NoneType") as caught:
        dlbridge.load(f"{tmp_path / 'none.py'}:make")
    assert caught.value.where.endswith("none.py:make") and "savedmodel" in caught.value.hint


def test_arguments_are_for_what_a_name_makes():
    with pytest.raises(DlbridgeError, match="arguments are for a function or class"):
        dlbridge.load(torch.nn.Linear(3, 2), arguments={"bias": False})


@pytest.mark.parametrize("name", ["with_example", "with_names"])
def test_inputs_of_an_example_have_its_sizes(zoo, name):
    assert _shapes(dlbridge.load(f"{zoo}:{name}")) == ["[5,3]", "[1]", "[5,4]"]


def test_an_input_that_the_user_names_takes_the_place_of_the_example(zoo):
    model = dlbridge.load(f"{zoo}:with_example", inputs={"x": "[batch,3]"})
    assert _shapes(model) == ["[batch,3]", "[1]", "[batch,4]"]


def test_named_sizes_in_an_example_are_free(zoo):
    assert _shapes(dlbridge.load(f"{zoo}:with_text")) == ["[rows,3]", "[1]", "[rows,4]"]


@pytest.mark.parametrize(("name", "arguments"), [("of_ids", {}), ("with_example", {"dtype": "float64"})])
def test_an_input_without_a_dtype_has_that_of_the_example(zoo, name, arguments):
    given = {"input": "[batch,seq]"} if name == "of_ids" else {"x": "[batch,3]"}
    model = dlbridge.load(f"{zoo}:{name}", arguments=arguments, inputs=given)
    assert {v.dtype.name for v in model.inputs if v.name in given} == {"INT64" if name == "of_ids" else "DOUBLE"}


def test_an_example_of_a_keras_model_says_its_inputs(tmp_path, monkeypatch):
    keras = pytest.importorskip("keras")

    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(4)

        def call(self, x, y):
            return self.dense(x) + y

    example = (np.ones((5, 3), "float32"), np.ones((5, 4), "float32"))
    made = factories.Made(Twice(), "twice", example, dlbridge.frameworks.get("keras"))
    monkeypatch.setattr(factories, "make", lambda name, arguments: made)
    model = dlbridge.load("zoo:twice")
    assert [(v.name, str(v.shape)) for v in model.inputs] == [("x", "[batch,3]"), ("y", "[batch,4]")]


@pytest.mark.parametrize(
    ("text", "value"),
    [("n=64", 64), ("n=0.5", 0.5), ("n=[1, 2]", [1, 2]), ("n=true", True), ("n=resnet", "resnet"), ("n=", "")],
)
def test_the_value_of_an_argument_is_json_or_text(text, value):
    assert factories.parse_arguments([text]) == {"n": value}


@pytest.mark.parametrize("texts", [["hidden"], ["=3"], ["a b=3"], ["n=1", "n=2"]])
def test_an_argument_that_is_none_is_refused(texts):
    with pytest.raises(ValueError):
        factories.parse_arguments(texts)


@pytest.mark.parametrize(("file", "text"), [("c.yaml", "hidden: 6\nact: Tanh\n"), ("c.json", '{"hidden": 6}')])
def test_arguments_come_from_a_file(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    assert factories.read_arguments(tmp_path / file)["hidden"] == 6


@pytest.mark.parametrize("text", ["- 1\n", "3\n", "a: [\n"])
def test_a_file_that_holds_no_arguments_is_refused(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(DlbridgeError):
        factories.read_arguments(tmp_path / "c.yaml")


def test_a_dtype_that_was_guessed_is_told_where_the_export_fails():
    with pytest.raises(DlbridgeError) as caught:
        dlbridge.load(torch.nn.Embedding(9, 4), inputs={"input": "[batch,seq]"})
    assert "input:int64[...]" in caught.value.hint
