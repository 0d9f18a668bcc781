"""source.concats: concats read each other and leave the blocks whose lists they join; what is computed stays."""

import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from dlbridge import frameworks
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes import shapes
from dlbridge.source.condense.concats import grow_concats

FLOAT = ir.DataType.FLOAT
SCOPES = ["", "a", "b", "a.layer1", "a.layer2", "a.layer3", "b.layers.0", "b.layers.1", "b.layers.1.part"]


def _model(nodes, outputs, blocks=None):
    """A model of (scope, op, inputs, attributes), whose values are numbered from the inputs 0 and 1."""
    values = [ir.val(name, dtype=FLOAT, shape=ir.Shape(["batch", 2, 2])) for name in ("x", "y")]
    inputs, made = values[:2], []
    for index, (scope, op_type, read, attributes) in enumerate(nodes):
        name = f"{scope}.n{index}".lstrip(".")
        node = ir.node(op_type, [values[i] for i in read], attributes, name=name)
        traits.mark(node, traits.ANONYMOUS)
        node.outputs[0].name = f"v{index}"
        made.append(node)
        values.append(node.outputs[0])
    model = Model.build("g", inputs, [values[i] for i in outputs], made, [], blocks=blocks or {})
    shapes.infer(model.ir)
    return model


def _run(model, feeds):
    proto = ir.to_proto(model.ir)
    onnx.checker.check_model(proto)
    return ReferenceEvaluator(proto).run(None, feeds)


@st.composite
def _graphs(draw):
    """Concats and Relus in blocks; their inputs are often those of one before, and one more."""
    nodes, lists, axis = [], [], draw(st.sampled_from([1, 2, -1]))
    other = draw(st.lists(st.integers(0, 8), max_size=2))  # where the axis is another
    ranks = {0: {1: 2, 2: 2}, 1: {1: 2, 2: 2}}  # value -> axis -> size
    for index in range(draw(st.integers(2, 9))):
        here, scope = (axis if index not in other else 1) % 3, draw(st.sampled_from(SCOPES))
        values = st.integers(0, len(nodes) + 1)
        first = draw(st.sampled_from(lists)) if lists and draw(st.booleans()) else [draw(values)]
        read = [*first, *draw(st.lists(values, max_size=2))]
        sizes = ranks[read[0]]
        read = [v for v in read if all(ranks[v][a] == sizes[a] for a in (1, 2) if a != here)]
        if draw(st.integers(0, 3)) == 0:
            nodes.append((scope, "Relu", read[:1], {}))
            ranks[len(nodes) + 1] = sizes
        else:
            nodes.append((scope, "Concat", read, {"axis": here - 3 if draw(st.booleans()) else here}))
            ranks[len(nodes) + 1] = {**sizes, here: sum(ranks[v][here] for v in read)}
            lists.append(read)
    outputs = draw(st.lists(st.integers(2, len(nodes) + 1), min_size=1, max_size=3, unique=True))
    kinds = draw(st.lists(st.sampled_from(["Layer", "Block"]), min_size=len(SCOPES), max_size=len(SCOPES)))
    blocks = {p: k for p, k in zip(SCOPES, kinds, strict=True) if p and draw(st.booleans())}
    return _model(nodes, outputs, blocks)


@settings(max_examples=60)
@given(_graphs())
def test_what_is_computed_stays(model):
    rng = np.random.default_rng(0)
    feeds = {name: rng.normal(size=(3, 2, 2)).astype(np.float32) for name in ("x", "y")}
    right = _run(model, feeds)
    grown = model.clone()
    grow_concats(grown.graph)
    assert len({n.name for n in grown.graph}) == len(list(grown.graph))
    pytorch = frameworks.get("pytorch")
    written = pytorch.run(pytorch.load(model.write("pytorch")), feeds).values()
    for before, after, printed in zip(right, _run(grown, feeds), written, strict=True):
        np.testing.assert_array_equal(after, before)
        np.testing.assert_array_equal(printed, before)


def _concats(model):
    return {n.name: [v.name for v in n.inputs] for n in model.graph if n.op_type == "Concat"}


def _relu(scope, read):
    return (scope, "Relu", [read], {})


def _concat(scope, *read, axis=1):
    return (scope, "Concat", list(read), {"axis": axis})


def test_lists_that_grow_are_joined_around_their_blocks():
    names = ["a.layers.0", "a.layers.1", "a.layers.2"]
    nodes = [_relu(names[0], 0)]
    nodes += [_concat(names[1], 0, 2), _relu(names[1], 3)]
    nodes += [_concat(names[2], 0, 2, 4, axis=-2), _relu(names[2], 5), _concat("a", 0, 2, 4, 6)]
    model = _model(nodes, [7], dict.fromkeys(names, "Layer"))
    grow_concats(model.graph)
    assert _concats(model) == {"a.n1": ["x", "v0"], "a.n3": ["v1", "v2"], "a.n5": ["v3", "v4"]}


def test_lists_of_one_length_stay_in_their_blocks():
    nodes = [_concat("a.layer1", 0, 1), _relu("a.layer1", 2), _concat("a.layer2", 3, 1), _relu("a.layer2", 4)]
    model = _model(nodes, [5], {"a.layer1": "Layer", "a.layer2": "Layer"})
    before = _concats(model)
    grow_concats(model.graph)
    assert _concats(model) == before


def test_what_a_block_joins_with_its_own_stays():
    nodes = [_relu("a.layer1", 0), _relu("a.layer2", 2), _concat("a.layer2", 3, 0, 1), _relu("a.layer2", 4)]
    model = _model(nodes, [5])
    before = _concats(model)
    grow_concats(model.graph)
    assert _concats(model) == before


def test_concats_of_other_axes_or_orders_stay():
    nodes = [_concat("", 0, 1), _concat("", 0, 1, 1, axis=2), _concat("", 1, 0, 1)]
    model = _model(nodes, [2, 3, 4])
    before = _concats(model)
    grow_concats(model.graph)
    assert _concats(model) == before
