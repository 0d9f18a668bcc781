"""From the command line to an answer with names: what comes before and after a model is in its graph."""

import io
import json

import numpy as np
import pytest
from click.testing import CliRunner

from dlbridge.cli import cli
from dlbridge.runtime import load
from tests.helpers.paths import ROOT
from tests.helpers.serving import start

image = pytest.importorskip("PIL.Image")
PROCESSING = """
inputs:
  image: {kind: image, size: [8, 8], mean: [0.5], std: [0.25]}
outputs:
  logits: {top: 3, labels: labels.txt}
"""
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def run(*arguments):
    done = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_an_image_of_any_size_gets_the_names_of_its_classes(tmp_path):
    (tmp_path / "processing.yaml").write_text(PROCESSING)
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    repository = tmp_path / "models"
    model = ROOT / "examples" / "cnn_digits.yaml"
    processing = tmp_path / "processing.yaml"
    run("convert", model, "--to", "onnx", "--into", repository, "--name", "digits", "--processing", processing)
    pixels = np.random.default_rng(0).integers(0, 255, (31, 23), np.uint8)
    data = io.BytesIO()
    image.fromarray(pixels).save(data, "PNG")
    session = load(repository / "digits")
    expected = session(pixels[None, :, :, None])
    running = start(repository)
    try:
        status, found, _ = running.ask("POST", "/v2/models/digits/infer", data.getvalue(), Content_Type="image/png")
    finally:
        running.stop()
    assert status == 200, found
    outputs = {output["name"]: output["data"] for output in found["outputs"]}
    assert outputs["logits_labels"] == [NAMES[i] for i in outputs["logits_classes"]]
    assert np.array_equal(np.float32(outputs["logits"]), expected["logits"].reshape(-1))
    logits = np.float64(outputs["logits"])
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert outputs["logits_classes"] == np.argsort(-probabilities)[:3].tolist()
    assert np.allclose(outputs["logits_scores"], np.sort(probabilities)[::-1][:3], rtol=1e-5)
    certificate = json.loads((repository / "digits" / "certificate.json").read_text())
    assert certificate["passed"] is True


def test_the_file_alone_does_the_same(tmp_path):
    """``dlbridge run`` on images, without a server."""
    (tmp_path / "processing.yaml").write_text(PROCESSING.replace("labels.txt", str(tmp_path / "labels.txt")))
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    model = ROOT / "examples" / "cnn_digits.yaml"
    run("convert", model, "--to", "onnx", "-o", tmp_path / "m.onnx", "--processing", tmp_path / "processing.yaml")
    image.fromarray(np.full((20, 30), 200, np.uint8)).save(tmp_path / "grey.png")
    run("run", tmp_path / "m.onnx", tmp_path / "grey.png", "-o", tmp_path / "out.npz")
    found = np.load(tmp_path / "out.npz")
    assert found["logits_labels"].shape == (1, 3) and set(found["logits_labels"].ravel()) <= set(NAMES)
