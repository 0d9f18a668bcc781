"""The writing rules of Keras against the ONNX reference evaluator: a case for each attribute (tests/op_cases.py)."""

from __future__ import annotations

import numpy as np
import op_cases_regions
import pytest
from op_cases import CASES, Case

import dlbridge
from dlbridge import frameworks
from dlbridge.verification.compare import relative_error

keras = pytest.importorskip("keras")
KERAS = frameworks.get("keras")


@pytest.mark.parametrize("case", [*CASES, *op_cases_regions.CASES], ids=str)
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
