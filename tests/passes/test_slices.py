"""Slices of slices: one where their axes differ, and always the same numbers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from dlbridge import frameworks
from dlbridge.passes.slices import join_slices

_cuts = st.tuples(st.integers(-3, 2), st.integers(-6, 6), st.integers(-5, 5), st.sampled_from([1, 2, -1, None]))


def _graph(cuts, free):
    """Slices one after the other, each along one axis; the ends of some are inputs."""
    nodes, constants, inputs = [], [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b", 5])]
    for number, (axis, start, end, step) in enumerate(cuts):
        parts = {"start": start, "axis": axis, "end": end} | ({} if step is None else {"step": step})
        if free[number]:
            inputs.append(helper.make_tensor_value_info(f"end{number}", TensorProto.INT64, [1]))
            del parts["end"]
        constants += [numpy_helper.from_array(np.array([v], np.int64), f"{k}{number}") for k, v in parts.items()]
        names = [f"{k}{number}" for k in ("start", "end", "axis", *(("step",) if step is not None else ()))]
        nodes.append(
            helper.make_node("Slice", [f"v{number}" if number else "x", *names], [f"v{number + 1}"], f"s{number}")
        )
    out = helper.make_tensor_value_info(f"v{len(cuts)}", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "slices", inputs, [out], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


@given(st.lists(st.tuples(_cuts, st.booleans()), min_size=2, max_size=4))
def test_joined_slices_give_the_same(cuts_and_free):
    cuts, free = zip(*cuts_and_free, strict=True)
    proto = _graph(cuts, free)
    feeds = {"x": np.arange(4 * 6 * 5, dtype=np.float32).reshape(4, 6, 5)}
    feeds |= {f"end{i}": np.array([cut[2]], np.int64) for i, cut in enumerate(cuts) if free[i]}
    wanted = ReferenceEvaluator(proto).run(None, feeds)[0]
    model = frameworks.get("onnx").read(proto)
    join_slices(model.graph)
    found = ReferenceEvaluator(ir.to_proto(model.ir)).run(None, feeds)[0]
    np.testing.assert_array_equal(found, wanted)


def test_slices_along_different_axes_are_one():
    model = frameworks.get("onnx").read(_graph([(1, 0, 2, None), (2, 1, 4, 2), (-3, 1, 3, None)], [True, False, False]))
    assert sum(node.op_type == "Slice" for node in model.graph) == 1
