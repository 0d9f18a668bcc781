"""Every example: all routes agree with the reference evaluator in float64, at several batch sizes."""

from pathlib import Path

import pytest

import dlbridge

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_all_routes_agree(example):
    report = dlbridge.verify(example, batch_sizes=(1, 2, 7))
    report.require()
    assert {c.route for c in report.checks} == {
        "pytorch",
        "keras",
        "onnx",
        "onnx via torch.onnx",
        "onnx via tf2onnx",
    }
    assert all(error <= 1e-5 for check in report.checks for error in check.errors.values())
