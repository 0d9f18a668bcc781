"""The laws of the layout pass: whatever it does to a graph, the graph computes the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlbridge.passes import layout, shapes
from dlbridge.passes.layout.pads import join_pads
from tests.helpers.layout_graphs import FLOAT, Build, run


def check(model, *sizes):
    """Same outputs before and after, with shape inference agreeing; returns the number of transposes that is left."""
    after = model.clone()
    layout.channels_last(after.ir)
    count = sum(n.op_type == "Transpose" for n in after.graph if not _of_weights(n.inputs[0]))
    standard = after.clone()
    layout.to_standard(standard.ir)
    shapes.infer(standard.ir)
    for size in sizes or (2,):
        shape = [d if isinstance(d, int) else size for d in model.inputs[0].shape]
        x = np.random.default_rng(size).normal(size=shape).astype(np.float32)
        for a, b in zip(run(model, x), run(standard, x), strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
    return count


def _of_weights(value):
    return value.is_initializer() or (value.producer() is not None and _of_weights(value.producer().inputs[0]))


def conv(b, x, channels_in, channels_out):
    return b("Conv", x, b.random(channels_out, channels_in, 3, 3), pads=[1, 1, 1, 1])


def test_a_residual_block_needs_transposes_at_the_interface_only():
    b = Build("batch", 4, 4, 4)  # equal sizes: a rule that mixed up axes would not be refused
    y = conv(b, b("Relu", conv(b, b.x, 4, 4)), 4, 4)
    assert check(b.model(b("Relu", b("Add", y, b.x))), 1, 3) == 2


GATES = {
    "x + tanh(x)": lambda b, x: b("Add", x, b("Tanh", x)),
    "tanh(x) + x": lambda b, x: b("Add", b("Tanh", x), x),
    "x * (x + exp(cos(x)))": lambda b, x: b("Mul", x, b("Add", x, b("Exp", b("Cos", x)))),
    "where(x > 0, exp(x), -x)": lambda b, x: b(
        "Where", b("Greater", x, b.weight(np.float32(0))), b("Exp", x), b("Neg", x)
    ),
}


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
def test_a_value_and_what_is_computed_from_it_meet_without_transposes(gate):
    b = Build("batch", 4, 4, 4)
    assert check(b.model(conv(b, gate(b, conv(b, b.x, 4, 4)), 4, 4)), 1, 3) == 2


def test_a_long_chain_of_elementwise_ops_is_followed_in_little_time():
    b = Build("batch", 4, 4, 4)
    x = y = conv(b, b.x, 4, 4)
    for _ in range(60):
        y = b("Sin", b("Add", y, y))
    assert check(b.model(conv(b, b("Add", x, y), 4, 4)), 1, 3) <= 4


def test_flatten_is_absorbed_into_the_linear_after_it():
    b = Build("batch", 3, 4, 5)
    y = b("Relu", b("Flatten", b("Relu", conv(b, b.x, 3, 6))))
    model = b.model(b("Linear", y, b.random(7, 6 * 4 * 5), b.random(7), domain="dlbridge"))
    assert check(model, 1, 3) == 1


def test_global_pooling_and_flatten_needs_no_transpose():
    b = Build("batch", 3, 4, 4)
    y = b("Flatten", b("GlobalAveragePool", conv(b, b.x, 3, 6)))
    assert check(b.model(b("Linear", y, b.random(7, 6), b.random(7), domain="dlbridge")), 1, 3) == 1


def test_patches_become_a_sequence_without_transposes():
    b = Build("batch", 3, 8, 8)
    patches = b("Conv", b.x, b.random(6, 3, 4, 4), strides=[4, 4])
    y = b("Transpose", b("Reshape", patches, b.ints(0, 6, 4)), perm=[0, 2, 1])
    assert check(b.model(y), 1, 3) == 1


@pytest.mark.parametrize("cut", ["Unsqueeze", "Reshape"])
def test_a_vector_that_is_added_to_every_place_needs_no_transpose(cut):
    b = Build("batch", 4, 4, 4)
    vector = b("Linear", b("ReduceMax", b.x, b.ints(2, 3), keepdims=0), b.random(4, 4), domain="dlbridge")
    wide = b(cut, vector, b.ints(2, 3) if cut == "Unsqueeze" else b.ints(0, 4, 1, 1))
    assert check(b.model(conv(b, b("Add", conv(b, b.x, 4, 4), wide), 4, 4)), 1, 3) == 2


@pytest.mark.parametrize("inputs", [[None, (1, 1, 2, 3)], [None, None, (0, 3, 6, 7)]])
def test_resizing_is_channels_last(inputs):
    b = Build("batch", 3, 4, 4)
    sizes = [v and (b.weight(np.array(v, np.float32)) if i == 1 else b.ints(*(v[2:]))) for i, v in enumerate(inputs)]
    axes = {} if len(inputs) == 2 else {"axes": [2, 3]}
    y = b("Resize", conv(b, b.x, 3, 3), *sizes, mode="linear", **axes)
    assert check(b.model(conv(b, y, 3, 5)), 1, 3) == 2


# --- random graphs -------------------------------------------------------------------------------------------------

SHAPE = (4, 4, 4)  # channels, height, width


def _keep(b, draw, x):
    """One op that keeps the shape."""
    match draw(st.integers(0, 16)):
        case 0:
            return conv(b, x, 4, 4)
        case 1:
            return b("Relu", x)
        case 2:
            return b(
                "Add",
                x,
                b.random(*draw(st.sampled_from([(4, 1, 1), (1, 4, 1, 1), (4,), (1,), (), (4, 4), (1, 1, 4, 1)]))),
            )
        case 3:
            kind = draw(st.sampled_from(["constant", "parameter"]))
            return b("Mul", b.random(*draw(st.sampled_from([(4, 1, 1), (4, 4, 4), (1, 4, 4)])), kind=kind), x)
        case 4:
            return b("Softmax", x, axis=draw(st.integers(-3, 3)))
        case 5:
            return b("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        case 6:
            return b(
                "Slice", b("Pad", x, b.ints(0, 1, 2, 0, 0, 0, 0, 1)), b.ints(1, 2, 0), b.ints(9, 9, 4), b.ints(1, 2, -1)
            )
        case 7:
            return b(
                "Sub",
                x,
                b("ReduceMean", x, b.ints(*draw(st.sampled_from([(1,), (2, 3), (-1,), (1, 2, 3)]))), keepdims=1),
            )
        case 8:
            axis = draw(st.integers(-3, 3))
            parts = b("Split", x, axis=axis, num_outputs=2, outputs=2) if axis % 4 else [x, x]
            return b("Concat", *reversed(parts), axis=axis) if axis % 4 else b("Add", *parts)
        case 9:
            return b("Transpose", x, perm=draw(st.sampled_from([[0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2]])))
        case 10:
            return b("Reshape", b("Reshape", x, b.ints(0, 4, 16)), b.ints(0, 4, 4, 4))
        case 11:
            ones = b.weight(np.ones(4, np.float32), "parameter")
            return b("BatchNormalization", x, ones, b.random(4), b.random(4), ones)
        case 12:
            return b("Mul", x, b("Sigmoid", b("GlobalAveragePool", x)))
        case 13:
            scales = b.weight(np.array(draw(st.sampled_from([(1, 1, 2, 1), (1, 2, 1, 0.5)])), np.float32))
            bigger = b("Resize", x, None, scales)  # nearest: onnxruntime does no other mode along all axes
            return b("Resize", bigger, None, None, b.ints(4, 4, 4), axes=[1, 2, 3])
        case 14:
            return b("CumSum", x, b.weight(np.array(draw(st.integers(-3, 3)))))
        case 15:
            axis, keep = draw(st.integers(1, 3)), draw(st.integers(0, 1))
            place = b("ArgMax", x, axis=axis, keepdims=keep)
            return b("Add", x, b("Cast", place if keep else b("Unsqueeze", place, b.ints(axis)), to=FLOAT))
        case _:
            return b("Unsqueeze", b("Squeeze", b("ReduceMax", x, b.ints(1)), b.ints(1)), b.ints(1))


@st.composite
def graphs(draw):
    b = Build(draw(st.sampled_from(["batch", 2])), *SHAPE)
    values = [b.x]
    for _ in range(draw(st.integers(2, 9))):
        x = values[-draw(st.integers(1, min(3, len(values))))]
        if x.producer() is not None and x.producer().op_type == "Unsqueeze":
            x = b("Add", x, b.x)
        values.append(b("Add", x, draw(st.sampled_from(values))) if draw(st.integers(0, 4)) == 0 else _keep(b, draw, x))
    outputs = [v for v in values[1:] if not v.uses()]
    return b.model(*[b("Identity", v) for v in outputs])


@settings(max_examples=60)
@given(graphs())
def test_random_graphs_keep_their_meaning(model):
    check(model)


@pytest.mark.slow
@settings(max_examples=1500)
@given(graphs())
def test_many_random_graphs_keep_their_meaning(model):
    check(model)


def test_native_interface_is_channels_last():
    b = Build("batch", 3, 5, 4)
    model = b.model(conv(b, b.x, 3, 6))
    native = model.clone()
    layout.channels_last(native.ir, io_layout="native")
    assert str(native.inputs[0].shape) == "[batch,5,4,3]"
    assert not any(n.op_type == "Transpose" for n in native.graph)
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    standard = native.clone()
    layout.to_standard(standard.ir)
    (got,) = run(standard, x.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(got.transpose(0, 3, 1, 2), run(model, x)[0], rtol=1e-5, atol=1e-5)


PADS = {
    "after a transpose": 1,
    "of some axes": 1,
    "of another number": 2,
    "that cuts": 2,
    "at one end": 2,
    "read twice": 2,
}


@pytest.mark.parametrize("case", PADS)
def test_zeros_before_a_convolution_are_its_padding(case):
    b = Build("batch", 5, 6, 4)
    amounts = [0, 1, 3, 0, 0, 1, 3, 0] if case != "at one end" else [0, 0, 3, 0, 0, 1, 3, 0]
    value = b.weight(np.array(2 if case == "of another number" else 0, np.float32))
    if case == "that cuts":
        amounts = [0, -1, 0, 0, 0, -1, 0, 0]
    if case == "of some axes":
        padded = b("Pad", b.x, b.ints(1, 3, 1, 3), None, b.ints(1, 2))
    else:
        padded = b("Pad", b.x, b.ints(*amounts), value)
    turned = b("Transpose", padded, perm=[0, 3, 1, 2])
    y = b("Conv", turned, b.random(3, 4, 3, 3), pads=[1, 0, 1, 0])
    model = b.model(y, b("Identity", padded)) if case == "read twice" else b.model(y)
    after = model.clone()
    join_pads(after.graph)
    assert sum(n.op_type in ("Pad", "Conv") for n in after.graph) == PADS[case]
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 4)).astype(np.float32)
    np.testing.assert_allclose(run(after, x)[0], run(model, x)[0], rtol=1e-5, atol=1e-5)
