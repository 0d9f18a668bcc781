"""The rewriter: looks at nodes by type, and keeps names, types and provenance where it changes a graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from dlbridge.ops import traits
from dlbridge.passes import shapes
from dlbridge.passes.lift import lift
from dlbridge.passes.matching import Match, match, producer, sole_producer, standard_default
from dlbridge.passes.refusals import trace
from dlbridge.passes.rewriter import Rewriter, Site


def _model(signature: str, body: str) -> ir.Model:
    model = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["": 28, "com.acme": 1]> g {signature} {{ {body} }}')
    model.graph.opset_imports["com.acme"] = 1
    return model


def _typed(signature: str, body: str) -> ir.Model:
    model = _model(signature, body)
    shapes.infer(model)
    return model


def _node(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph.all_nodes() if node.name == name)


# --- looking ----------------------------------------------------------------------------------------------------------


def test_an_op_of_another_domain_is_not_matched():
    model = _model("(float[2] x) => (y)", "[a] y = com.acme.Relu(x)")
    node = _node(model, "a")
    assert match(node, "Relu") is None and producer(model.graph.outputs[0], "Relu") is None
    assert match(node, "com.acme::Relu") is not None and match(node) is not None


def test_attributes_have_the_defaults_of_the_standard():
    model = _typed("(float[2, 3] x, int64[1] i) => (y, z)", "[a] y = Gather(x, i) [b] z = Softmax<axis = 0>(x)")
    gather, softmax = Match(_node(model, "a")), Match(_node(model, "b"))
    assert gather.integer("axis") == 0 and not gather.has("axis") and gather.get("axis", 7) == 7
    assert softmax.integer("axis") == 0 and match(softmax.node, "Softmax", axis=-1) is None
    assert match(gather.node, "Gather", axis=0) is not None
    assert standard_default("Transpose", "perm") is None and standard_default("Resize", "mode") == "nearest"
    assert standard_default("com.acme::Relu", "alpha") is None
    with pytest.raises(ValueError, match="no default"):
        gather.integer("no_such")


def test_inputs_are_read_by_what_they_are():
    model = _typed(
        "(float[batch, 3] x) => (y)",
        "[i] i = Constant<value_int = 1>() [s] s = Constant<value_ints = [1, 2]>() [a] y = Gather<axis = 1>(x, i)",
    )
    gather = Site(_node(model, "a"), Rewriter(model.graph))
    assert gather.static_size(0, 1) == 3 and gather.static_size(0, 0) is None and gather.static_size(0, 5) is None
    assert gather.rank() == 2 and gather.input(9) is None and gather.known(1) == 1
    assert gather.constant_scalar(1) is None  # made by a node: fold makes an initializer of it
    i = gather.rewriter.constant("one", [1])
    gather.set_input(1, i)
    assert gather.constant_scalar(1) == 1.0 and gather.constant_ints(1) == [1]
    traits.set_kind(i, "parameter")
    assert gather.constant_scalar(1) is None  # it trains
    with pytest.raises(ValueError, match="no input 5"):
        gather.operand(5)


def test_a_value_that_two_read_has_no_sole_producer():
    model = _typed("(float[2] x) => (y)", "[a] a = Relu(x) [b] y = Add(a, a)")
    value = _node(model, "b").inputs[0]
    assert producer(value, "Relu") is not None and sole_producer(value, "Relu") is None
    assert sole_producer(model.graph.outputs[0]) is None


# --- changing ---------------------------------------------------------------------------------------------------------


def test_new_names_are_free_in_the_whole_graph():
    model = _typed(
        "(float[2] x, bool c) => (y)",
        """[a] a = Relu(x)
        [if] y = If(c) <then_branch = t () => (float[2] a_neg) { [a_neg] a_neg = Neg(a) },
                        else_branch = e () => (float[2] other) { [other] other = Abs(a) }>""",
    )
    rewriter = Rewriter(model.graph)
    made = rewriter.insert(_node(model, "a"), "Neg", "neg", [model.graph.inputs[0]])
    assert made.name == "a_neg_1" and made.outputs[0].name == "a_neg_1"
    assert rewriter.changed
    rewriter.erase(made)
    assert rewriter.insert(_node(model, "a"), "Neg", "neg", [model.graph.inputs[0]]).name == "a_neg_1"


def test_a_new_node_is_from_where_the_one_is_for_which_it_is_made():
    model = _typed("(float[2] x) => (y)", "[a] y = Relu(x)")
    old = _node(model, "a")
    old.name = "block.a"
    old.metadata_props[traits.CALLS] = '{"block": 1}'
    old.metadata_props[traits.CLASS] = "torch.nn.ReLU"
    rewriter = Rewriter(model.graph)
    helper = rewriter.insert(old, "Abs", "size", [old.inputs[0]])
    assert traits.scope(helper) == "block" and traits.calls(helper) == {"block": 1} and traits.is_anonymous(helper)
    assert traits.CLASS not in helper.metadata_props
    new = rewriter.replace(old, "Sigmoid", [helper.outputs[0]])
    assert new.name == "block.a" and new.metadata_props[traits.CLASS] == "torch.nn.ReLU"
    assert model.graph.outputs[0].name == "y" and model.graph.outputs[0].shape == (2,)
    (found,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": np.array([-1, 2], np.float32)})
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.array([1, 2]))), rtol=1e-6)


def test_a_node_behind_another_takes_over_its_readers_and_its_name():
    model = _typed("(float[2] x) => (y)", "[a] y = Relu(x)")
    Site(_node(model, "a"), Rewriter(model.graph)).then("Neg", "minus", [])
    assert [node.op_type for node in model.graph] == ["Relu", "Neg"] and model.graph.outputs[0].name == "y"
    (found,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": np.array([-1, 2], np.float32)})
    np.testing.assert_array_equal(found, [-0.0, -2.0])


def test_an_output_of_the_graph_is_not_bypassed_to_an_input():
    model = _typed("(float[2] x) => (y, z)", "[a] y = Identity(x) [b] b = Relu(x) [c] z = Identity(b)")
    rewriter = Rewriter(model.graph)
    assert not rewriter.bypass(_node(model, "a"))
    assert rewriter.bypass(_node(model, "c"))
    assert [v.name for v in model.graph.outputs] == ["y", "z"] and _node(model, "b").outputs[0].name == "z"


def test_constants_are_shared_where_they_are_told_to_be():
    model = _typed("(float[2] x) => (y)", "[a] y = Relu(x)")
    rewriter = Rewriter(model.graph)
    first = rewriter.constant("n", [1, 2])
    assert rewriter.constant("n", [1, 2], share=True) is first
    assert rewriter.constant("n", [1, 2]).name == "n_1"
    other = rewriter.constant("n", [3], share=True)
    assert other.name == "n_2" and rewriter.constant("n", [3], share=True) is other
    assert rewriter.constant("n", [1.5], ir.DataType.FLOAT, share=True).dtype == ir.DataType.FLOAT


def test_a_pattern_that_does_not_fit_says_why():
    model = _typed("(float[2, 4] x, float[4, 3] w) => (y)", "[a] a = Sigmoid(x) [b] b = Mul(a, a) [c] y = MatMul(b, w)")
    with trace() as refusals:
        assert not lift(model)
    why = {(refusal.rule, refusal.node): refusal.why for refusal in refusals}
    assert why["swish", "b"] == "the sigmoid is not of a multiple of the other operand"
    assert "no matrix of weights" in why["matmul", "c"]
