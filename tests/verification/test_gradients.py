"""Gradients and steps of training agree between frameworks, and a framework whose gradient is wrong is found."""

import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import DlbridgeError
from dlbridge.verification import gradients


class Net(nn.Module):
    """A table, an input of floats, a layer that drops in training."""

    def __init__(self):
        super().__init__()
        self.table, self.line, self.drop = nn.Embedding(7, 4), nn.Linear(4, 3), nn.Dropout(0.5)

    def forward(self, ids, x):
        return torch.tanh(self.line(self.drop(self.table(ids) + x)))


INPUTS = {"ids": "int64[batch]", "x": "float32[batch,4]"}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return dlbridge.load(Net().eval(), inputs=INPUTS)


@pytest.fixture
def two(monkeypatch):
    """PyTorch, and a framework whose trainer is PyTorch's on another model."""
    changed = []

    class Second(type(frameworks.get("pytorch"))):
        name = "second"
        __module__ = "dlbridge.frameworks.pytorch"

        def trainer(self, model, spec, **options):
            for change in changed:
                change(model)
            return super().trainer(model, spec, **options)

    plain = frameworks.get
    known = {"pytorch": plain("pytorch"), "second": Second()}
    monkeypatch.setattr(gradients.frameworks, "trainers", lambda: list(known))
    monkeypatch.setattr(gradients.frameworks, "get", lambda name: known.get(name) or plain(name))
    return changed


def test_every_weight_and_float_input_has_a_gradient_that_agrees(model, two):
    (check, judged), _ = gradients.check_training(model, steps=3)
    assert judged.passed  # its dropout is off, so the loss at inference has these gradients
    assert set(check.gradients) == {"table.weight", "line.weight", "line.bias", "input x"}
    assert set(check.weights) == set(check.gradients)
    assert check.passed


def test_gradients_are_those_of_torch(model, two):
    subject = gradients._subject(model, 0)
    found = subject.gradients("pytorch")
    torch.manual_seed(0)
    net = Net().eval().double()
    x = torch.from_numpy(subject.inputs["x"]).requires_grad_()
    y = net(torch.from_numpy(subject.inputs["ids"]), x)
    ((y - torch.from_numpy(subject.target)) ** 2).mean().backward()
    for name, parameter in net.named_parameters():
        np.testing.assert_allclose(found[name], parameter.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(found["input x"][0], x.grad.sum(0).numpy(), atol=1e-12)


def test_a_model_that_another_one_trains_departs(model, two):
    two.append(lambda trained: trained.set_weights({"line.bias": trained.weights["line.bias"] + 1e-4}))
    (check, _), _ = gradients.check_training(model)
    assert not check.passed
    assert "differs from pytorch" in check.reason


def test_the_loss_itself_is_the_judge_of_gradients(two):
    model = dlbridge.load(nn.Sequential(nn.Linear(3, 4), nn.Tanh()).eval(), inputs={"input": "float32[batch,3]"})
    (beside, judged), _ = gradients.check_training(model)
    assert beside.passed
    assert (judged.compared_with, judged.passed) == ("differences of the loss", True)
    subject = gradients._subject(model, 0)
    wrong = {name: g * 1.1 for name, g in subject.gradients("pytorch").items()}
    assert not subject.difference("pytorch", wrong).passed


def test_a_report_with_training_that_departs_has_not_passed(model, two):
    options = {"routes": ["pytorch"], "battery": "quick", "train_steps": 2}
    dlbridge.verify(model, **options).require()
    two.append(lambda trained: trained.set_weights({"line.bias": trained.weights["line.bias"] + 1e-4}))
    report = dlbridge.verify(model, **options)
    with pytest.raises(DlbridgeError, match="does not train alike"):
        report.require()
    assert not report.to_json()["training"][0]["passed"]


def test_a_weight_without_a_gradient_is_no_departure(two, monkeypatch):
    """The bias before a normalization: its gradient is rounding, and Adam makes steps of it."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2)).eval()
    model = dlbridge.load(module, inputs={"input": "float32[batch,4]"})
    noise = lambda trained: trained.set_weights({"0.bias": trained.weights["0.bias"] + 2e-16})  # noqa: E731
    two.append(noise)
    ((check,), _) = gradients.check_training(model, steps=3)
    assert check.passed, check.reason
    assert "0.bias" in check.gradients and "0.bias" not in check.weights and "3.bias" in check.weights


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["convolutions", "sequences", "norm"])
def test_frameworks_train_alike(kind):
    pytest.importorskip("keras")
    torch.manual_seed(0)
    modules = {
        "convolutions": nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(64, 5)),
        "sequences": nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Tanh()),
        "norm": nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.GELU(), nn.Linear(6, 2)),
    }
    shapes = {"convolutions": "3,6,6", "sequences": "7,4", "norm": "4"}
    model = dlbridge.load(modules[kind].eval(), inputs={"input": f"float32[batch,{shapes[kind]}]"})
    for check in gradients.check_training(model, steps=5)[0]:
        assert check.passed, check.reason
