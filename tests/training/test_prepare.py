"""What is fitted on the rows that are trained on, kept with the model, and done alike when it is served."""

import numpy as np
import pytest
from PIL import Image

import dlbridge
from dlbridge import description, runtime, training
from dlbridge.errors import DlbridgeWarning, TrainingError
from dlbridge.training.datasets import opening
from dlbridge.training.datasets.prepare import Color, Crop, Flip
from dlbridge.training.spec import TrainingSpec
from tests.helpers.training import FRAMEWORKS, dense, largest_difference

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(50, 5)) * [1, 10, 100, 1, 0] + [0, 5, -300, 1e4, 7]).astype(np.float32)
ROWS = {"x": X, "label": RNG.integers(0, 3, 50)}
SPEC = TrainingSpec(
    loss={"op": "SoftmaxCrossEntropyLoss"},
    optimizer={"kind": "sgd", "learning_rate": 0.1},
    batch_size=8,
    epochs=2,
    validation_split=0.2,
    prepare={"x": {"kind": "standardize"}},
)
PICTURES = """
dlbridge: 1
name: pictures
inputs: {image: {dtype: float32, shape: [batch, 3, 8, 8]}}
nodes:
  - {op: Conv, channels: 4, kernel_shape: 3}
  - {op: Relu}
  - {op: Flatten}
  - {op: Linear, features: 3}
outputs: {y: fc1}
"""
IMAGES = {"image": RNG.integers(0, 256, (30, 12, 10, 3), dtype=np.uint8), "label": RNG.integers(0, 3, 30)}
OF_IMAGES = {"image": {"kind": "image", "fit": "cover", "normalize": True}}
CHANGES = [{"kind": "flip"}, {"kind": "crop", "padding": 2}, {"kind": "color", "brightness": 0.3, "saturation": 0.5}]


def spec_of_images(**more):
    data = SPEC.model_dump() | {"prepare": OF_IMAGES, "labels": {"label": ["a", "b", "c"]}} | more
    return TrainingSpec.model_validate(data)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_columns_are_standardized_by_the_rows_that_are_trained_on(framework):
    result = dlbridge.train(dense(), ROWS, framework=framework, spec=SPEC)
    kept = result.model.processing.inputs["x"]
    np.testing.assert_allclose(kept.mean, X[:40].astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(kept.std, [*X[:40, :4].astype(np.float64).std(0), 1.0], rtol=1e-9)
    by_hand = {"x": (X - np.float32(kept.mean)) / np.float32(kept.std), "label": ROWS["label"]}
    wanted = dlbridge.train(dense(), by_hand, framework=framework, spec=SPEC.model_copy(update={"prepare": {}}))
    assert largest_difference(result.model.weights, wanted.model.weights) <= 1e-6
    for name, numbers in wanted.history.items():
        assert result.history[name] == pytest.approx(numbers, rel=1e-5)


def test_what_is_served_does_the_same(tmp_path):
    training.train_to_folder(dense(), ROWS, tmp_path / "run", spec=SPEC, plot=False, quiet=True)
    model = dlbridge.load(tmp_path / "run")
    dlbridge.convert(tmp_path / "run", "onnx", tmp_path / "served")
    served = runtime.load(tmp_path / "served")(x=X)["y"]
    np.testing.assert_allclose(dlbridge.predict(model, {"x": X})["y"], served, rtol=1e-5, atol=1e-6)
    held_out = {name: array[40:] for name, array in ROWS.items()}
    history = dlbridge.training.checkpoint.load_checkpoint(tmp_path / "run" / "checkpoint").history
    assert dlbridge.evaluate(tmp_path / "run", held_out)["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-5)


def test_columns_that_are_the_numbers_of_an_image_are_standardized_one_by_one(tmp_path):
    flat = (RNG.normal(size=(20, 192)) * RNG.uniform(1, 9, 192) + RNG.normal(size=192)).astype(np.float32)
    spec = spec_of_images(prepare={"image": {"kind": "standardize"}}, labels={}, epochs=1)
    model = description.load(PICTURES)
    result = dlbridge.train(model, {"image": flat, "label": ROWS["label"][:20]}, spec=spec).model
    assert len(result.processing.inputs["image"].mean) == 192
    result.save(tmp_path / "trained")
    dlbridge.convert(tmp_path / "trained", "onnx", tmp_path / "served")
    images = flat.reshape(-1, 3, 8, 8)
    served = runtime.load(tmp_path / "served")(image=images)["y"]
    for given in (flat, images):
        np.testing.assert_allclose(dlbridge.predict(result, {"image": given})["y"], served, rtol=1e-5, atol=1e-5)
    with pytest.raises(TrainingError, match="has 16 columns, which are not the last axis"):
        dlbridge.train(model, {"image": flat.reshape(20, 12, 16), "label": ROWS["label"][:20]}, spec=spec)


def test_a_target_without_a_place_for_it_says_so(tmp_path):
    model = dlbridge.train(dense(), ROWS, spec=SPEC).model
    with pytest.warns(DlbridgeWarning, match="takes data that is prepared already"):
        dlbridge.convert(model, FRAMEWORKS[0], tmp_path / "out")


def test_a_training_that_goes_on_keeps_what_was_fitted(tmp_path):
    whole = dlbridge.train(dense(), ROWS, spec=SPEC.model_copy(update={"epochs": 4}))
    training.train_to_folder(dense(), ROWS, tmp_path / "run", spec=SPEC, plot=False, quiet=True)
    longer = SPEC.model_copy(update={"epochs": 4})
    moved = ROWS | {"x": X + 1}
    training.train_to_folder(dense(), moved, tmp_path / "run", spec=longer, resume=True, plot=False, quiet=True)
    assert dlbridge.load(tmp_path / "run").processing == whole.model.processing


def test_images_are_resized_normalized_and_served_alike(tmp_path):
    model = description.load(PICTURES)
    results = [dlbridge.train(model, IMAGES, framework=name, spec=spec_of_images()) for name in FRAMEWORKS]
    assert largest_difference(results[0].model.weights, results[1].model.weights) <= 1e-5
    kept = results[0].model.processing
    opened = opening.open_data(model, spec_of_images(), IMAGES)
    pixels = opened.seen.inputs["image"].astype(np.float64)
    np.testing.assert_allclose(pixels.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(pixels.std((0, 2, 3)), 1, atol=1e-5)
    assert kept.outputs["y"].labels == ("a", "b", "c")
    dlbridge.convert(results[0].model, "onnx", tmp_path / "served")
    served = runtime.load(tmp_path / "served")(image=IMAGES["image"])
    found = dlbridge.predict(results[0].model, {"image": IMAGES["image"]})
    np.testing.assert_allclose(found["y"], served["y"], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found["y_labels"], served["y_labels"])
    Image.fromarray(IMAGES["image"][3]).save(tmp_path / "one.png")
    alone = dlbridge.predict(results[0].model, tmp_path / "one.png")
    np.testing.assert_allclose(alone["y"][0], found["y"][3], rtol=1e-4, atol=1e-4)


def test_every_framework_sees_the_same_changed_images():
    spec = spec_of_images(augment={"image": CHANGES})
    model = description.load(PICTURES)
    results = [dlbridge.train(model, IMAGES, framework=name, spec=spec) for name in (*FRAMEWORKS, "nnx")]
    for other in results[1:]:
        assert largest_difference(results[0].model.weights, other.model.weights) <= 1e-5
    plain = dlbridge.train(model, IMAGES, spec=spec_of_images())
    assert largest_difference(results[0].model.weights, plain.model.weights) > 1e-4


def test_images_change_from_epoch_to_epoch_and_validation_sees_none_of_it():
    opened = opening.open_data(description.load(PICTURES), spec_of_images(augment={"image": CHANGES}), IMAGES)
    plain = opening.open_data(description.load(PICTURES), spec_of_images(), IMAGES)
    first, again, second = (next(opened.seen.epoch(n).batches()).inputs["image"] for n in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(np.sort(first.ravel()), np.sort(second.ravel()))
    np.testing.assert_array_equal(opened.held_out.inputs["image"], plain.held_out.inputs["image"])


def test_the_changes_are_what_they_are_called():
    rng = np.random.default_rng(0)
    x = rng.random((6, 5, 4, 3)).astype(np.float32)
    flipped = Flip(kind="flip", probability=1).change(x, rng, 1.0)
    np.testing.assert_array_equal(flipped, x[:, :, ::-1])
    cropped = Crop(kind="crop", padding=1).change(x, rng, 1.0)
    wide = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    for image, given in zip(cropped, wide, strict=True):
        assert any(np.array_equal(image, given[i : i + 5, j : j + 4]) for i in range(3) for j in range(3))
    bright = Color(kind="color", brightness=0.5).change(x, rng, 1.0)
    factors = bright / x
    assert ((bright == 1) | (np.abs(factors - factors.max((1, 2, 3), keepdims=True)) < 1e-5)).all()
    assert len(np.unique(factors.max((1, 2, 3)).round(3))) == 6
    assert bright.max() <= 1
    grey = Color(kind="color", saturation=1).change(np.repeat(x[..., :1], 3, -1), rng, 1.0)
    np.testing.assert_allclose(grey, np.repeat(x[..., :1], 3, -1), atol=1e-6)


REFUSED = {
    "no such input": ({"prepare": {"z": {"kind": "standardize"}}}, ROWS, "no input 'z'"),
    "no image": ({"prepare": {"x": {"kind": "image"}}}, ROWS, "four axes|is bytes"),
    "colours of what": ({"prepare": {}, "augment": {"x": [{"kind": "color"}]}}, ROWS, "four axes|images of bytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_prepared_is_refused(case):
    changed, data, words = REFUSED[case]
    spec = TrainingSpec.model_validate({**SPEC.model_dump(), **changed})
    with pytest.raises((TrainingError, dlbridge.DlbridgeError), match=words):
        dlbridge.train(dense(), data, spec=spec)
