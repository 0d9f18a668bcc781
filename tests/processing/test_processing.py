"""What comes before and after a model, in its graph: the numbers, what a file may say, and what is refused."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image as Picture

import dlbridge
from dlbridge import frameworks, processing
from dlbridge.errors import DlbridgeError, FileError
from dlbridge.processing import Classes, Image, Processing, Standardized

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PICTURE = np.random.default_rng(0).integers(0, 256, (2, 50, 40, 3), dtype=np.uint8)


class Pixels(torch.nn.Module):
    """Returns what it is given, and scores of five classes."""

    def __init__(self, channels_last=False):
        super().__init__()
        self.axes = (1, 2) if channels_last else (2, 3)
        self.fc = torch.nn.Linear(3, 5)

    def forward(self, image):
        return image * 1.0, self.fc(image.mean(self.axes))


@pytest.fixture(scope="module")
def model():
    return dlbridge.load(Pixels().eval(), inputs={"image": "float32[batch,3,32,32]"})


def run(model, processing_, **inputs):
    written = processing.add(model, processing_).write("onnx")
    written.check()
    onnx = frameworks.get("onnx")
    return onnx.run(onnx.load(written), inputs)


def outputs(model):
    return [v.name for v in model.outputs]


@pytest.mark.parametrize(("mode", "torch_mode"), [("linear", "bilinear"), ("cubic", "bicubic")])
@pytest.mark.parametrize("picture", [PICTURE, PICTURE[:, :20, :24]], ids=["smaller", "larger"])
def test_an_image_is_resized_and_normalized(model, mode, torch_mode, picture):
    found = run(model, Processing(inputs={"image": Image(mode=mode, mean=MEAN, std=STD)}), image=picture)
    x = torch.from_numpy(picture).permute(0, 3, 1, 2).float()
    x = torch.nn.functional.interpolate(x, (32, 32), mode=torch_mode, antialias=True)
    wanted = (x / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    np.testing.assert_allclose(found[outputs(model)[0]], wanted, atol=2e-5)


def test_an_image_is_what_pillow_makes_of_it(model):
    found = run(model, Processing(inputs={"image": Image()}), image=PICTURE)[outputs(model)[0]]
    for mine, picture in zip(found, PICTURE, strict=True):
        resized = np.asarray(Picture.fromarray(picture).resize((32, 32), Picture.Resampling.BILINEAR))
        assert np.abs(mine.transpose(1, 2, 0) * 255 - resized).max() <= 1.0  # Pillow rounds to bytes, twice


def test_cover_keeps_the_aspect_ratio_and_crops_the_middle(model):
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, None, :, None], (1, 32, 1, 3))  # 32 x 64: no resize is needed
    found = run(model, Processing(inputs={"image": Image(fit="cover", scale=1.0)}), image=ramp)[outputs(model)[0]]
    np.testing.assert_array_equal(found[0, 0, 0], np.arange(16, 48))


def test_an_input_of_channels_last_stays_so():
    last = dlbridge.load(Pixels(channels_last=True).eval(), inputs={"image": "float32[batch,32,32,3]"})
    found = run(last, Processing(inputs={"image": Image(scale=1.0)}), image=PICTURE[:, :32, :32])
    np.testing.assert_array_equal(found[outputs(last)[0]], PICTURE[:, :32, :32].astype(np.float32))


def test_columns_are_standardized():
    model = dlbridge.load(torch.nn.Identity(), inputs={"input": "float32[batch,3]"})
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    mean, std = (1.0, 2.0, 3.0), (2.0, 1.0, 0.5)
    (found,) = run(
        model, Processing(inputs={"input": Standardized(kind="standardized", mean=mean, std=std)}), input=x
    ).values()
    np.testing.assert_allclose(found, (x - mean) / std, rtol=1e-6)


def test_the_best_classes_by_name(model):
    _, scores = outputs(model)
    labels = ("cat", "dog", "ël k", "fox", "gnu")
    x = np.random.default_rng(1).normal(size=(3, 3, 32, 32)).astype(np.float32)
    found = run(model, Processing(outputs={scores: Classes(top=2, labels=labels)}), image=x)
    logits = found[scores].astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    best = np.argsort(-logits, -1)[:, :2]
    np.testing.assert_array_equal(found[f"{scores}_classes"], best)
    np.testing.assert_allclose(found[f"{scores}_scores"], np.take_along_axis(chances, best, -1), rtol=1e-5)
    assert found[f"{scores}_labels"].tolist() == [[labels[c] for c in row] for row in best]


def test_what_is_written_is_what_the_standard_says(model):
    whole = processing.add(
        model,
        Processing(
            inputs={"image": Image(size=(32, 32), fit="cover", mean=MEAN, std=STD)},
            outputs={outputs(model)[1]: Classes(labels=tuple("abcde"))},
        ),
    )
    dlbridge.verify(whole, routes=["onnx"], battery="quick").require()


def test_the_model_is_not_changed(model):
    before = str(model)
    processing.add(model, Processing(inputs={"image": Image()}))
    assert str(model) == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inputs": {"imag": Image()}}, "no input 'imag'"),
        ({"outputs": {"score": Classes()}}, "no output 'score'"),
        ({"inputs": {"image": Image(mean=(1.0, 2.0))}}, "'mean' has 2 numbers, there are 3"),
        ({"outputs": {"linear": Classes(top=6)}}, "'top' is 6, there are 5 classes"),
        ({"outputs": {"linear": Classes(labels=("a",))}}, "1 labels for 5 classes"),
    ],
)
def test_what_does_not_fit_is_said(model, given, message):
    given = {k: {outputs(model)[1] if n == "linear" else n: v for n, v in e.items()} for k, e in given.items()}
    with pytest.raises(DlbridgeError, match=message):
        processing.add(model, Processing(**given))


def test_free_sizes_and_unknown_channels_are_asked_for():
    free = dlbridge.load(torch.nn.ReLU(), inputs={"input": "float32[batch,3,h,w]"})
    with pytest.raises(DlbridgeError, match="height and width are free"):
        processing.add(free, Processing(inputs={"input": Image()}))
    odd = dlbridge.load(torch.nn.ReLU(), inputs={"input": "float32[batch,5,8,8]"})
    with pytest.raises(DlbridgeError, match="layout"):
        processing.add(odd, Processing(inputs={"input": Image()}))


def test_a_file(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    file = tmp_path / "processing.yaml"
    file.write_text("inputs: {x: {kind: image, size: [8, 8]}}\noutputs: {y: {labels: names.txt, top: 2}}\n")
    found = processing.load(file)
    assert found.inputs["x"] == Image(size=(8, 8)) and found.outputs["y"].labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inputs: {x: {kind: image, sise: [8, 8]}}", "sise"),
        ("inputs: {x: {kind: image, size: [0, 8]}}", "greater than or equal to 1"),
        ("inputs: {x: {kind: standardized, mean: [0], std: [0]}}", "standard deviation of 'x' is 0"),
        ("outputs: {y: {labels: none.txt}}", "none.txt"),
        ("[1, 2", "cannot be read"),
        ("5", "valid dictionary"),
    ],
)
def test_a_file_that_says_something_else(tmp_path, text, message):
    file = tmp_path / "processing.yaml"
    file.write_text(text)
    with pytest.raises(FileError, match=message):
        processing.load(file)


def test_convert_compares_both_the_model_and_what_is_written(model, tmp_path):
    given = Processing(inputs={"image": Image()}, outputs={outputs(model)[1]: Classes(labels=tuple("abcde"))})
    dlbridge.convert(model, "onnx", tmp_path / "pixels", processing=given)
    certificate = json.loads((tmp_path / "pixels" / "certificate.json").read_text())
    assert certificate["judge"] == "the original" and certificate["passed"]
    assert certificate["processing"]["judge"] == "the ONNX reference evaluator" and certificate["processing"]["passed"]
    session = onnxruntime.InferenceSession(tmp_path / "pixels" / "1" / "model.onnx")
    assert [i.type for i in session.get_inputs()] == ["tensor(uint8)"]
    with pytest.raises(DlbridgeError, match="ONNX files alone"):
        dlbridge.convert(model, "keras", processing=given)
