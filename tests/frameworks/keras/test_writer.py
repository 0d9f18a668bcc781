"""The writing rules of Keras against the ONNX reference evaluator: a case for each attribute (op_cases)."""

from __future__ import annotations

import numpy as np
import pytest

import dlbridge
from dlbridge import frameworks
from dlbridge.verification.compare import relative_error
from tests.helpers.op_cases import CASES
from tests.helpers.op_cases.case import Case

KERAS = frameworks.get("keras")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case) -> None:
    live = KERAS.load(KERAS.write(case.model()))
    for given, expected in case.runs():
        outputs = list(KERAS.run(live, given).values())
        for got, right in zip(outputs, expected, strict=True):
            assert got.dtype == right.dtype
            assert got.shape == right.shape
            np.testing.assert_allclose(got, right, case.tolerance, case.tolerance)


def test_a_second_sequential_model_whose_layers_have_numbers_for_names():
    """Keras calls it sequential_1, and its second layer 1."""
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(3)]).eval()
    model, x = dlbridge.load(module, inputs={"input": "float32[batch,4]"}), torch.randn(3, 4)
    for _ in range(2):
        assert relative_error(np.asarray(model.to_keras()(x.numpy())), module(x).detach().numpy()) <= 1e-6


@pytest.mark.parametrize("activation", ["ReLU", "GELU", "Sigmoid"])
@pytest.mark.parametrize(
    "layer",
    [
        {"stride": 2, "dilation": 2, "padding": 2},
        {"stride": 2, "dilation": 2, "groups": 2},
        {"transposed": True, "stride": 2, "groups": 2},
        {"transposed": True, "stride": 2, "dilation": 2},
        {"transposed": True, "stride": 2, "padding": 1, "output_padding": 1},
        {"padding": 1, "groups": 2},
        {"padding": "same"},
    ],
    ids=str,
)
def test_no_activation_behind_a_convolution_is_lost(layer, activation):
    """A layer takes it over; what Keras has no layer for must apply it itself."""
    torch = pytest.importorskip("torch")
    options = dict(layer)
    kind = torch.nn.ConvTranspose2d if options.pop("transposed", False) else torch.nn.Conv2d
    module = torch.nn.Sequential(kind(4, 6, 3, **options), getattr(torch.nn, activation)()).eval()
    x = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    made = np.asarray(dlbridge.load(module, inputs={"input": "float32[batch,4,9,9]"}).to_keras()(x.numpy()))
    assert relative_error(made, module(x).detach().numpy()) <= 1e-5
