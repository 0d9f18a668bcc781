"""The error of each node along the depth, as a page shows it: of what is written here, and of another model."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge.verification.pages import page


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 3)).eval()


INPUTS = {"inputs": {"input": "float32[batch,6]"}}


def test_the_rounding_of_each_node_is_measured(module):
    report = dlbridge.verify(module, read=INPUTS, routes=["pytorch", "onnx"], battery="quick", by_node=True)
    nodes = [node.name for node in report.subject.graph]
    assert list(report.depth["pytorch"]) == list(report.depth["onnx"]) == nodes
    assert all(0 < error < 1e-6 for found in report.depth.values() for error in found.values())
    text = page.html(report, report.subject)
    assert text.count("<polyline") == 2 and f"<title>{nodes[2]}: " in text


def test_another_model_departs_at_its_node(module):
    other = copy.deepcopy(module)
    other[2].bias.data[1] += 0.1
    report = dlbridge.verify(module, other, read=INPUTS, battery="quick", by_node=True)
    (found,) = report.depth.values()
    (departure,) = report.departures.values()
    errors = list(found.values())
    assert max(errors[:2]) < 1e-6 < 1e-3 < min(errors[2:])
    assert list(found)[2] == departure.node
    text = page.html(report, report.subject)
    assert f"departs: {departure.node}" in text


def test_what_is_not_shown_is_said(module, monkeypatch):
    monkeypatch.setattr("dlbridge.verification.departures.locate._LARGEST", 1)
    report = dlbridge.verify(module, read=INPUTS, routes=["pytorch"], battery="quick", by_node=True)
    assert report.passed and not report.depth
    assert "Not shown for pytorch: the model has" in page.html(report, report.subject)


def test_the_losses_of_steps_are_drawn_over_each_other(module):
    report = dlbridge.verify(module, read=INPUTS, routes=["pytorch"], battery="quick", train_steps=4)
    assert {len(losses) for losses in report.curves.values()} == {4}
    first, *others = report.curves.values()
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-6)
    assert page.html(report, report.subject).count("<polyline") == len(report.curves)
