"""The training code that is printed below a model runs as it stands."""

import numpy as np
import pytest

import dlbridge
from dlbridge import frameworks
from dlbridge.source.tree.document import WIDTH
from dlbridge.training.spec import TrainingSpec
from dlbridge.verification.inputs.arrays import random_inputs
from tests.helpers.paths import EXAMPLE_FILES, EXAMPLES
from tests.helpers.training import dense
from tests.helpers.training_places import FIRST, LAST, places

FRAMEWORKS = ("pytorch", "keras")
TARGETS = {
    "two_inputs": lambda rng: rng.random(8).astype(np.float32),
    "unet": lambda rng: rng.integers(0, 2, (8, 1, 32, 32)).astype(np.float32),
}
NAMES = [path.stem for path in EXAMPLE_FILES]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("example", [*NAMES, FIRST, LAST])
def test_the_printed_training_code_of_each_example_runs(framework, example):
    rng = np.random.default_rng(0)
    if example in NAMES:
        model = dlbridge.load(EXAMPLES / f"{example}.yaml")
        data = list(random_inputs(model, {"batch": 8, "time": 12}, seed=0).values())
        data.append(TARGETS.get(example, lambda rng: rng.integers(0, 4, 8))(rng))
    else:
        model, arrays = places(example)
        data = list(arrays.values())
    source = model.write(framework)
    if framework == "pytorch":
        import torch

        data = [torch.from_numpy(a) for a in data]
    live = frameworks.get(framework).load(source)
    before = {name: w.copy() for name, w in frameworks.get(framework).weights(live).items()}
    source.execute()["train"](live, *data)
    after = frameworks.get(framework).weights(live)
    assert all(np.isfinite(w).all() for w in after.values())
    assert any(np.abs(after[name] - w).max() > 1e-5 for name, w in before.items())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_printed_training_code_trains(framework, capsys):
    model = dlbridge.load(EXAMPLES / "mlp_784.yaml")
    source = model.write(framework)
    live = frameworks.get(framework).load(source)
    rng = np.random.default_rng(0)
    label = rng.integers(0, 10, 64)
    image = (rng.normal(size=(64, 784)) / 10 + np.eye(10, 784)[label]).astype(np.float32)
    if framework == "pytorch":
        import torch

        image, label = torch.from_numpy(image), torch.from_numpy(label)
    source.execute()["train"](live, image, label)
    if framework == "keras":
        live.fit(image, label, epochs=40, verbose=0)
        assert live.evaluate(image, label, verbose=0, return_dict=True)["accuracy"] > 0.9
    else:
        source.execute()["train"](live, image, label, epochs=40)
        assert (live(image).argmax(-1) == label).float().mean() > 0.9


@pytest.mark.parametrize("place", [FIRST, LAST])
def test_the_printed_pytorch_training_keeps_the_rows_that_validate_to_itself(place, capsys):
    """It prints the numbers that ``dlbridge.train`` has for the rows held back, which it has not trained on."""
    import torch

    model, data = places(place)
    update = {"validation_split": 0.2, "metrics": ("accuracy",), "shuffle": False, "epochs": 2}
    model.training = TrainingSpec.model_validate({**model.training.model_dump(), **update})
    source = model.write("pytorch")
    live = frameworks.get("pytorch").load(source)
    source.execute()["train"](live, *(torch.from_numpy(a) for a in data.values()))
    printed = capsys.readouterr().out.split()
    wanted = dlbridge.train(model, data).history
    for name in ("val_loss", "val_accuracy"):
        found = [float(printed[i + 1]) for i, word in enumerate(printed) if word == name]
        np.testing.assert_allclose(found, wanted[name], atol=2e-3)


INTEGER_LABELS = {
    "BinaryCrossentropy": lambda rng: rng.integers(0, 2, 8),
    "SparseCategoricalCrossentropy": lambda rng: rng.integers(0, 1, 8),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("op", INTEGER_LABELS)
def test_the_printed_training_code_takes_labels_as_datasets_have_them(op, framework, capsys):
    rng = np.random.default_rng(0)
    model = dense(features=1)
    loss = {"op": op, "from_logits": True}
    model.training = TrainingSpec(loss=loss, metrics=("accuracy",), validation_split=0.25)
    data = [rng.normal(size=(8, 5)).astype(np.float32), INTEGER_LABELS[op](rng)]
    source = model.write(framework)
    if framework == "pytorch":
        import torch

        data = [torch.from_numpy(a) for a in data]
    source.execute()["train"](frameworks.get(framework).load(source), *data)
    assert "val_" in capsys.readouterr().out


LONG = {
    "loss": {
        "loss": {
            "op": "SparseCategoricalCrossentropy",
            "class_weights": [1, 2, 3],
            "label_smoothing": 0.1,
            "sample_weight": "importance",
            "reduction": "sum",
        }
    },
    "training": {
        "loss": {"op": "SparseCategoricalCrossentropy"},
        "optimizer": {"kind": "adam", "no_decay": ["*bias"], "groups": [{"match": "*", "learning_rate": 2}]},
        "schedule": {"kind": "cosine"},
        "clip": {"norm": 1.0},
        "early_stopping": {},
        "metrics": ["precision", "recall", "f1", "iou"],
        "ema": 0.9,
        "precision": "bfloat16",
        "accumulate": 2,
    },
}


@pytest.mark.parametrize("framework", [*FRAMEWORKS, "nnx"])
@pytest.mark.parametrize("what", LONG)
def test_a_long_list_of_what_is_not_printed_is_broken_into_lines(what, framework):
    model = dense("{op: Softmax}", "softmax1")
    model.training = TrainingSpec.model_validate(LONG[what])
    text = frameworks.get(framework).write(model).text
    comments = [line.strip("# ") for line in text.splitlines() if line.lstrip().startswith("# ")]
    assert all(len(line) <= WIDTH for line in text.splitlines())
    said = " ".join(comments)
    wanted = ["class_weights, label_smoothing, sample_weight, reduction"] if what == "loss" else ["iou", "accumulate"]
    assert all(each in said for each in wanted)


LEFT_OUT = {
    "SoftmaxCrossEntropyLoss of what a Softmax or Sigmoid returns": ({"op": "SoftmaxCrossEntropyLoss"}, "Softmax"),
    "BinaryCrossentropy of what a Softmax or Sigmoid returns": ({"op": "BinaryCrossentropy"}, "Softmax"),
    "CategoricalCrossentropy with weight": ({"op": "CategoricalCrossentropy", "weight": 0.5}, "Softmax"),
}


@pytest.mark.parametrize("why", LEFT_OUT)
def test_keras_prints_no_training_that_its_own_loss_would_do_otherwise(why):
    pytest.importorskip("keras")
    loss, ending = LEFT_OUT[why]
    model = dense(f"{{op: {ending}}}", f"{ending.lower()}1")
    model.training = TrainingSpec(loss=loss)
    said = " ".join(model.write("keras").text.replace("# ", "").split())
    assert f"since this framework has no {why} of its own" in said


@pytest.mark.parametrize("framework", [*FRAMEWORKS, "nnx"])
def test_the_printed_loss_of_huber_takes_its_delta(framework, capsys):
    rng = np.random.default_rng(0)
    model, data = dense(), {"x": rng.normal(size=(8, 5)), "label": 3 * rng.normal(size=(8, 3))}
    data = {name: array.astype(np.float32) for name, array in data.items()}
    loss, optimizer = {"op": "Huber", "delta": 0.3}, {"kind": "sgd", "learning_rate": 0.1}
    model.training = TrainingSpec(loss=loss, optimizer=optimizer, shuffle=False)
    source = model.write(framework)
    live, arrays = frameworks.get(framework).load(source), list(data.values())
    if framework == "pytorch":
        import torch

        arrays = [torch.from_numpy(a) for a in arrays]
    source.execute()["train"](live, *arrays)
    wanted = dlbridge.train(model, data, framework=framework).model.weights
    for name, weight in dlbridge.pull(live).weights.items():
        np.testing.assert_allclose(weight, wanted[name], rtol=1e-5, atol=1e-6)
