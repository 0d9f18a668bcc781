"""Every example: all routes agree with the reference evaluator in float64, at several batch sizes."""

import pytest

import dlbridge
from dlbridge import frameworks
from tests.helpers.paths import EXAMPLE_FILES


@pytest.mark.parametrize("example", EXAMPLE_FILES, ids=lambda p: p.stem)
def test_all_routes_agree(example):
    report = dlbridge.verify(example, batch_sizes=(1, 2, 7))
    report.require()
    assert {c.route for c in report.checks} == {
        "pytorch",
        "keras",
        "onnx",
        "onnx via torch.onnx",
        "onnx via tf2onnx",
        *(["nnx"] if frameworks.get("nnx").is_installed else []),
    }
    assert all(error <= 1e-5 for check in report.checks for error in check.errors.values())
