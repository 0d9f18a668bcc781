"""A classifier of text, from its file to what it says of a line of CSV."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from dlbridge.cli import cli
from dlbridge.errors import UnsupportedOpError

keras = pytest.importorskip("keras")
L = keras.layers

TEXTS = ["The cat sat.", "the dog's café!", "nothing, that it knows"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model as tutorials make it: adapted to texts, with the default settings of each layer."""
    vectorize = L.TextVectorization(output_sequence_length=5, name="vectorize")
    vectorize.adapt(np.array(TEXTS[:2], dtype=object))
    text = keras.Input((1,), dtype="string", name="text")
    y = L.Embedding(vectorize.vocabulary_size(), 8)(vectorize(text))
    model = keras.Model(
        text, L.Dense(3, activation="softmax", name="kind")(L.GlobalAveragePooling1D()(y)), name="texts"
    )
    path = tmp_path_factory.mktemp("text") / "texts.keras"
    model.save(path)
    return model, path


def run(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def test_it_is_converted_verified_and_run(saved, tmp_path):
    model, path = saved
    done = run("convert", path, "--to", "onnx", "-o", tmp_path / "texts")
    assert done.exit_code == 0, done.output
    certificate = json.loads((tmp_path / "texts" / "certificate.json").read_text())
    assert certificate["passed"] and "Unicode" in certificate["checks"][-1]["inputs"]
    assert "data_type: TYPE_STRING" in (tmp_path / "texts" / "config.pbtxt").read_text()
    with open(tmp_path / "in.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in TEXTS)])
    done = run("run", tmp_path / "texts", tmp_path / "in.csv", "-o", tmp_path / "out.csv")
    assert done.exit_code == 0, done.output
    found = np.loadtxt(tmp_path / "out.csv", delimiter=",", skiprows=1)
    wanted = keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(np.array(TEXTS, object).reshape(-1, 1))))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_its_certificate_is_the_same_for_the_same_inputs(saved, tmp_path):
    _, path = saved
    for name in ("one", "two"):
        assert run("convert", path, "--to", "onnx", "-o", tmp_path / name).exit_code == 0
    one, two = (json.loads((tmp_path / n / "certificate.json").read_text())["hashes"] for n in ("one", "two"))
    assert one == two


def test_a_framework_without_strings_is_refused_with_the_way_out(saved, tmp_path):
    _, path = saved
    done = run("convert", path, "--to", "pytorch", "-o", tmp_path / "out")
    assert isinstance(done.exception, UnsupportedOpError)
    said = str(done.exception)
    assert "pytorch has no strings" in said and "vectorize" in said and "--from" in said
