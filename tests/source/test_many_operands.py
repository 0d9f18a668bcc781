"""Ops that join very many tensors, and graphs that are very deep: they are written, or refused in words."""

import itertools
import sys

import numpy as np
import onnx.parser
import pytest

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError

COUNT = 700
NAMES = [f"x{i}" for i in range(COUNT)]
NUMPY = {"Sum": sum, "Mean": lambda arrays: sum(arrays) / COUNT, "Max": lambda arrays: np.max(arrays, 0)}


@pytest.fixture
def pythons_limit():
    """Python's own limit of calls, which a library may have raised."""
    raised = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(raised)


@pytest.mark.parametrize("framework", ["pytorch", "keras", "nnx"])
@pytest.mark.parametrize("op_type", NUMPY)
def test_hundreds_of_tensors_are_joined(op_type, framework):
    inputs = ", ".join(f"float[b,2] {name}" for name in NAMES)
    text = f"""<ir_version: 9, opset_import: ["": 18]>
        net ({inputs}) => (float[b,2] y) {{ y = {op_type}({", ".join(NAMES)}) }}"""
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(-9, 9, (3, 2)).astype(np.float32) for name in NAMES}
    bridge = frameworks.get(framework)
    source = dlbridge.load(onnx.parser.parse_model(text)).write(framework)
    found = bridge.run(bridge.load(source), arrays)["y"]
    np.testing.assert_allclose(found, NUMPY[op_type](list(arrays.values())), rtol=1e-6)
    assert max(map(len, source.text.splitlines())) < 300


def test_a_graph_that_is_too_deep_for_keras_is_refused_with_the_limit_to_raise(pythons_limit):
    names = ["x", *(f"v{i}" for i in range(1200)), "y"]
    lines = "\n".join(f"{after} = Abs({before})" for before, after in itertools.pairwise(names))
    text = f'<ir_version: 9, opset_import: ["": 18]> net (float[b,2] x) => (float[b,2] y) {{ {lines} }}'
    with pytest.raises(UnsupportedOpError, match=r"(?s)Python's limit of calls.*sys.setrecursionlimit"):
        dlbridge.load(onnx.parser.parse_model(text)).to_keras()
