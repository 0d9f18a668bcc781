"""Reads of one part of what was joined: the part itself, and always the same numbers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from dlbridge.passes import shapes
from dlbridge.passes.fold import fold


def _run(nodes, inputs, constants, feeds):
    """(the ops that are left, the result before, the result after folding)."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in inputs.items()]
    tensors = [numpy_helper.from_array(np.array(v, np.int64), name) for name, v in constants.items()]
    last = helper.make_node("Neg", [nodes[-1].output[0]], ["y"])
    graph = helper.make_graph(
        [*nodes, last], "g", ports, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], tensors
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    (before,) = ReferenceEvaluator(proto).run(None, feeds)
    model = ir.serde.deserialize_model(proto)
    shapes.infer(model)
    fold(model)
    (after,) = ReferenceEvaluator(ir.serde.serialize_model(model)).run(None, feeds)
    return [node.op_type for node in model.graph], before, after


@settings(max_examples=25)
@given(st.integers(0, 2), st.integers(0, 2), st.integers(-3, 2), st.booleans(), st.booleans())
def test_an_element_of_a_stack(axis, other, index, from_the_end, as_vector):
    a, b, c = (np.random.default_rng(i).standard_normal((2, 3)).astype(np.float32) for i in range(3))
    nodes = [helper.make_node("Unsqueeze", [n, "at"], [f"u{n}"]) for n in "abc"]
    nodes.append(helper.make_node("Concat", ["ua", "ub", "uc"], ["s"], axis=axis - 3 if from_the_end else axis))
    place = index if axis == other else index % 2
    nodes.append(helper.make_node("Gather", ["s", "i"], ["g"], axis=other))
    constants = {"at": [axis], "i": [place] if as_vector else place}
    inputs = {name: ["n", 3] for name in "abc"}
    left, before, after = _run(nodes, inputs, constants, {"a": a, "b": b, "c": c})
    np.testing.assert_array_equal(before, after)
    assert ("Concat" not in left) == (axis == other and not as_vector)


@settings(max_examples=20)
@given(st.integers(0, 5), st.integers(0, 5))
def test_a_part_of_known_sizes(start, end):
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["s"], axis=1),
        helper.make_node("Slice", ["s", "from", "to", "along"], ["g"]),
    ]
    a, b = np.arange(4, dtype=np.float32).reshape(2, 2), np.arange(6, dtype=np.float32).reshape(2, 3)
    constants = {"from": [start], "to": [end], "along": [1]}
    left, before, after = _run(nodes, {"a": ["n", 2], "b": ["n", 3]}, constants, {"a": a, "b": b})
    np.testing.assert_array_equal(before, after)
    is_within_one = start < end and (end <= 2 or start >= 2)
    assert ("Concat" not in left) == is_within_one
    assert ("Slice" not in left) == ((start, end) in ((0, 2), (2, 5)))


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_a_tensor_that_is_written_piece_by_piece(places):
    nodes = []
    for step, place in enumerate(places):
        old = f"x{step}"
        nodes.append(helper.make_node("Slice", [old, "zero", f"c{place}", "along"], [f"b{step}"]))
        nodes.append(helper.make_node("Slice", [old, f"c{place + 1}", "far", "along"], [f"e{step}"]))
        nodes.append(helper.make_node("Concat", [f"b{step}", f"p{step}", f"e{step}"], [f"x{step + 1}"], axis=1))
    constants = {"zero": [0], "far": [2**63 - 1], "along": [1], **{f"c{i}": [i] for i in range(1, 5)}, "c0": [0]}
    inputs = {"x0": ["n", 4], **{f"p{step}": ["n", 1] for step in range(len(places))}}
    feeds = {name: np.random.default_rng(i).random((2, s[1]), np.float32) for i, (name, s) in enumerate(inputs.items())}
    left, before, after = _run(nodes, inputs, constants, feeds)
    np.testing.assert_array_equal(before, after)
    if places == list(range(4)):
        assert left == ["Concat", "Neg"]


@pytest.mark.parametrize("behind", [0, 3])
def test_what_is_behind_of_any_length(behind):
    """``concat([past, new])[:, :past]``, whatever the length of the past is."""
    nodes = [
        helper.make_node("Concat", ["past", "new"], ["s"], axis=1),
        helper.make_node("Shape", ["past"], ["to"], start=1, end=2),
        helper.make_node("Slice", ["s", "from", "to", "along"], ["g"]),
    ]
    feeds = {"past": np.ones((2, behind), np.float32), "new": np.zeros((2, 1), np.float32)}
    constants = {"from": [0], "along": [1]}
    left, before, after = _run(nodes, {"past": ["n", "past"], "new": ["n", "seq"]}, constants, feeds)
    np.testing.assert_array_equal(before, after)
    assert left == ["Neg"]
