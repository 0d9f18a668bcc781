"""Every example: all routes agree with the reference evaluator in float64, at several batch sizes."""

import pytest

import dlbridge
from tests.helpers.paths import EXAMPLE_FILES


@pytest.mark.parametrize("example", EXAMPLE_FILES, ids=lambda p: p.stem)
def test_all_routes_agree(example):
    report = dlbridge.verify(example, batch_sizes=(1, 2, 7))
    report.require()
    routes = {check.route for check in report.checks}
    assert {"pytorch", "keras", "onnx", "onnx via torch.onnx", "onnx via tf2onnx"} <= routes
    plain = [check for check in report.checks if check.inputs == "plain"]
    assert len(plain) >= len(routes)
    assert all(error <= 1e-5 for check in plain for error in check.errors.values())
