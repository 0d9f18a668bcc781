"""The training code that is printed below a model runs as it stands."""

from pathlib import Path

import numpy as np
import pytest
from training_places import FIRST, LAST, places

import dlbridge
from dlbridge import frameworks
from dlbridge.verification.inputs import random_inputs

FRAMEWORKS = ("pytorch", "keras")
TARGETS = {
    "two_inputs": lambda rng: rng.random(8).astype(np.float32),
    "unet": lambda rng: rng.integers(0, 2, (8, 1, 32, 32)).astype(np.float32),
}
EXAMPLES = [path.stem for path in sorted(Path("examples").glob("*.yaml"))]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("example", [*EXAMPLES, FIRST, LAST])
def test_the_printed_training_code_of_each_example_runs(framework, example):
    rng = np.random.default_rng(0)
    if example in EXAMPLES:
        model = dlbridge.load(f"examples/{example}.yaml")
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
    model = dlbridge.load("examples/mlp_784.yaml")
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
