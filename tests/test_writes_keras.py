"""The writing rules of Keras against the ONNX reference evaluator: a case for each attribute (tests/op_cases.py)."""

from __future__ import annotations

import numpy as np
import op_cases_regions
import pytest
from op_cases import CASES, Case

from dlbridge import frameworks

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
