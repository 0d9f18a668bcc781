"""The writing rules of PyTorch against the ONNX reference evaluator: a case for each attribute (op_cases)."""

from __future__ import annotations

import numpy as np
import pytest

from dlbridge import frameworks
from tests.helpers.op_cases import CASES
from tests.helpers.op_cases.case import Case, X

PYTORCH = frameworks.get("pytorch")


# Keras has no such type.
POWERS = [Case("Cast", (X((2, 3), make=np.exp),), {"to": 24, "round_mode": how}) for how in ("up", "down", "nearest")]


@pytest.mark.parametrize("case", [*CASES, *POWERS], ids=str)
def test_case(case: Case) -> None:
    source = PYTORCH.write(case.model())
    live = PYTORCH.load(source)
    for given, expected in case.runs():
        outputs = list(PYTORCH.run(live, given).values())
        for got, right in zip(outputs, expected, strict=True):
            assert got.dtype == right.dtype
            assert got.shape == right.shape
            np.testing.assert_allclose(got, right, case.tolerance, case.tolerance)
    if case.layer is not None:
        assert case.layer in source.text
