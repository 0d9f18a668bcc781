"""What one framework has begun another goes on with, as if it had trained throughout; alone it goes on bit for bit."""

import os
import random
import signal
import time

import numpy as np
import pytest

import dlbridge
from dlbridge import description, frameworks
from dlbridge.errors import DlbridgeError
from dlbridge.training.checkpoint import load_checkpoint
from dlbridge.training.folder import train_to_folder
from tests.helpers import parity
from tests.helpers.training import SPEC, dense

CLOSE = 1e-9
FRAMEWORKS = ("pytorch", "keras")


def halves(made, arrays, spec, first, second):
    """The weights that move, those of a training throughout, and those of one that another framework goes on with."""
    half, whole = (type(spec).model_validate({**spec.model_dump(), "epochs": n}) for n in (2, 4))
    throughout = dlbridge.train(made, arrays, framework=first, spec=whole)
    begun = dlbridge.train(made, arrays, framework=first, spec=half)
    done = dlbridge.train(made, arrays, framework=second, spec=whole, checkpoint=begun.checkpoint)
    return parity.with_gradient(made, arrays, spec), throughout, done


def check_handover(first, second, name="MLP", steps=5, **what):
    made, arrays, spec = parity.case(name, steps=steps, **what)
    if spec.schedule is not None:  # one that does not ask how long the training is
        more = {"schedule": {"kind": "exponential", "gamma": 0.95, "warmup": 3}}
        spec = type(spec).model_validate({**spec.model_dump(), **more})
    moved, throughout, done = halves(made, arrays, spec, first, second)
    assert parity.difference(throughout.model.weights, done.model.weights, moved) <= CLOSE
    for slot, held in throughout.checkpoint.slots.items():
        for weight in set(moved) & held.keys():
            # of a recurrent layer's two biases one does not train: what a framework holds beside it is no state
            moves = throughout.model.weights[weight] != made.weights[weight]
            moves = moves if moves.shape == held[weight].shape else ...
            found = done.checkpoint.slots[slot][weight]
            np.testing.assert_allclose(found[moves], held[weight][moves], rtol=1e-7, atol=1e-12)
    assert done.checkpoint.step == throughout.checkpoint.step
    np.testing.assert_allclose(done.history["loss"], throughout.history["loss"], rtol=1e-9)


QUICK = ["SGD, momentum", "AMSGrad", "NAdam", "Adagrad", "Adafactor", "Muon"]


@pytest.mark.parametrize("first", FRAMEWORKS)
@pytest.mark.parametrize("optimizer", QUICK)
def test_training_goes_on_in_the_other_framework(optimizer, first):
    check_handover(first, *{*FRAMEWORKS} - {first}, optimizer=optimizer)


def test_a_mean_of_weights_and_a_schedule_go_on_in_the_other_framework():
    check_handover("pytorch", "keras", course="accumulation, mean of weights")


@pytest.mark.parametrize("first", FRAMEWORKS)
def test_single_numbers_go_on_from_a_file_as_they_are(first, tmp_path):
    """A count of batches and a weight without axes have no axes in a checkpoint either."""
    import torch

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.last = torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3)
            self.scale = torch.nn.Parameter(torch.tensor(1.5))

        def forward(self, x):
            return self.scale * self.last(self.norm(x))

    torch.manual_seed(0)
    model, rng = dlbridge.load(Scaled().double(), inputs={"x": "float64[batch,5]"}), np.random.default_rng(0)
    data = {"x": rng.normal(size=(40, 5)), "label": rng.integers(0, 3, 40)}
    short, long = (SPEC.model_copy(update={"epochs": n}) for n in (2, 4))
    (second,) = {*FRAMEWORKS} - {first}
    train_to_folder(model, data, tmp_path / "half", spec=short, framework=first, quiet=True, plot=False)
    assert load_checkpoint(tmp_path / "half" / "checkpoint").weights["scale"].shape == ()
    more = {"quiet": True, "plot": False, "resume": tmp_path / "half"}
    done = train_to_folder(model, data, tmp_path / "rest", spec=long, framework=second, **more)
    whole = dlbridge.train(model, data, framework=first, spec=long)
    for name, weight in whole.model.weights.items():
        if weight.dtype.kind == "f":
            np.testing.assert_allclose(done.model.weights[name], weight, rtol=1e-9, atol=1e-12)
    if first == "pytorch":  # Keras counts no batches
        assert done.model.weights["norm.num_batches_tracked"] == 2 * len(data["x"]) * 0.8 / SPEC.batch_size


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(a, b) for a in (*FRAMEWORKS, "nnx") for b in (*FRAMEWORKS, "nnx")])
@pytest.mark.parametrize("optimizer", parity.OPTIMIZERS)
@pytest.mark.parametrize("model", ["MLP", "LSTM"])
def test_training_goes_on_between_any_two_frameworks(optimizer, model, first, second):
    if model == "LSTM" and optimizer == "Adafactor" and "nnx" in (first, second):
        pytest.skip("refused: NNX holds the two biases of a recurrent layer as one")
    check_handover(first, second, model, optimizer=optimizer)


DROPOUT = """
dlbridge: 1
name: dropout
inputs: {x: {dtype: float32, shape: [batch, 5]}}
nodes:
  - {op: Linear, features: 16}
  - {op: Tanh}
  - {op: Dropout, ratio: 0.5}
  - {op: Linear, features: 16}
  - {op: Dropout, ratio: 0.3}
  - {op: Linear, features: 3}
outputs: {y: fc3}
"""


@pytest.mark.parametrize("framework", [*FRAMEWORKS, "nnx"])
def test_with_dropout_a_framework_goes_on_bit_for_bit(framework, tmp_path):
    model, rng = description.load(DROPOUT), np.random.default_rng(0)
    data = {"x": rng.normal(size=(40, 5)).astype(np.float32), "label": rng.integers(0, 3, 40)}
    more = {"framework": framework, "quiet": True, "plot": False}
    short, long = (SPEC.model_copy(update={"epochs": n}) for n in (2, 4))
    train_to_folder(model, data, tmp_path / "whole", spec=long, **more)
    train_to_folder(model, data, tmp_path / "half", spec=short, **more)
    done = train_to_folder(model, data, tmp_path / "rest", spec=long, resume=tmp_path / "half", **more)
    whole = load_checkpoint(tmp_path / "whole" / "checkpoint")
    for name, weight in whole.weights.items():
        np.testing.assert_array_equal(done.checkpoint.weights[name], weight)
    assert done.history == whole.history
    assert load_checkpoint(tmp_path / "half" / "checkpoint").epoch == 2


@pytest.mark.slow
def test_a_training_that_is_killed_anywhere_goes_on_from_a_whole_checkpoint(tmp_path):
    """Each time a process of its own trains on, and is killed after a random time, until the training is done."""
    model, rng = dense(), np.random.default_rng(0)
    data = {"x": rng.normal(size=(64, 5)).astype(np.float32), "label": rng.integers(0, 3, 64)}
    spec, run = SPEC.model_copy(update={"epochs": 2000}), tmp_path / "run"
    whole = dlbridge.train(model, data, framework="pytorch", spec=spec.model_copy(update={"epochs": 60}))
    moments, kills, before = random.Random(0), 0, 0
    while kills < 30:
        child = os.fork()
        if child == 0:
            resume = (run / "checkpoint" / "state.json").exists()
            train_to_folder(
                model, data, run, spec=spec, framework="pytorch", resume=resume, force=True, quiet=True, plot=False
            )
            os._exit(0)
        time.sleep(moments.uniform(0.05, 0.6))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        if (run / "checkpoint" / "state.json").exists():
            found = load_checkpoint(run / "checkpoint")
            assert found.epoch >= before
            assert found.step == 4 * found.epoch
            before = found.epoch
    assert before > 0
    count = min(before, 60)
    curve = load_checkpoint(run / "checkpoint").history["loss"]
    np.testing.assert_array_equal(curve[:count], whole.history["loss"][:count])


@pytest.mark.parametrize("framework", [*FRAMEWORKS, "nnx"])
def test_weights_that_user_code_changed_come_back(framework):
    model = description.load(parity_text())
    live = model.to(framework)
    changed = {name: (w + 0.25).astype(w.dtype) for name, w in model.weights.items() if w.dtype.kind == "f"}
    other = model.clone()
    other.set_weights(changed)
    fresh = other.to(framework)
    copy_weights(framework, fresh, live)
    pulled = dlbridge.pull(live)
    x = {"x": np.random.default_rng(0).normal(size=(2, 2, 6, 6)).astype(np.float32)}
    found, wanted = (frameworks.get(framework).run(m.to(framework), x)["y"] for m in (pulled, other))
    np.testing.assert_array_equal(found, wanted)
    for name, weight in changed.items():
        np.testing.assert_array_equal(pulled.weights[name], weight)
    assert (model.weights["conv.weight"] != pulled.weights["conv.weight"]).any()


def parity_text():
    return """
dlbridge: 1
name: small
inputs: {x: {dtype: float32, shape: [batch, 2, 6, 6]}}
nodes:
  - {name: conv, op: Conv, channels: 4, kernel_shape: 3}
  - {op: BatchNormalization}
  - {op: Flatten}
  - {name: y, op: Linear, features: 3}
outputs: {y: y}
"""


def copy_weights(framework, source, target):
    """What a user's own code may do."""
    if framework == "pytorch":
        target.load_state_dict(source.state_dict())
    elif framework == "keras":
        target.set_weights(source.get_weights())
    else:
        from flax import nnx

        nnx.update(target, nnx.state(source))


def test_a_model_of_another_origin_has_nothing_to_come_back_to():
    import torch

    with pytest.raises(DlbridgeError, match="was not written by dlbridge"):
        dlbridge.pull(torch.nn.Linear(2, 2))
