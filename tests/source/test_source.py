"""What the writers share: weights as views, shape arithmetic, blocks, definitions, printing."""

import ast

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import dlbridge
from dlbridge import description, frameworks
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.source.arithmetic import Arithmetic
from dlbridge.source.bodies import print_code
from dlbridge.source.names import class_name, identifier, snake_case
from dlbridge.source.tree.code import code, literal_text
from dlbridge.source.weights import View, Weight, to_initializers
from tests.helpers.paths import EXAMPLES

FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64

# --- weights -------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.sampled_from(
        [
            ("transpose", (1, 0, 2)),
            ("transpose", (2, 0, 1)),
            ("blocks", 0, (2, 0, 1)),
            ("blocks", 1, (1, 0)),
            ("flip", (0,)),
            ("flip", (1, 2)),
        ]
    ),
    max_size=4,
)


@given(STEPS, st.sampled_from([(), (("index", 1),), (("index", slice(1, 4)),)]))
def test_a_view_writes_where_it_reads(steps, first):
    array = np.arange(5 * 6**3, dtype=np.float64).reshape(5, 6, 6, 6)
    if first != (("index", 1),):
        steps = [s for s in steps if s[0] == "flip"]
    view = View("w", (*first, *steps))
    value = -1.0 - np.arange(view.read(array).size, dtype=np.float64).reshape(view.read(array).shape)
    changed = array.copy()
    view.write(changed, value)
    np.testing.assert_array_equal(view.read(changed), value)
    assert (changed != array).sum() == value.size  # nothing else is touched


def test_trained_weights_go_back_and_a_sum_is_kept():
    old = {"B": np.arange(8.0).reshape(1, 8)}
    bias = Weight((View("B", (("index", (0, slice(0, 4))),)), View("B", (("index", (0, slice(4, 8))),))))
    np.testing.assert_array_equal(bias.read(old), [4, 6, 8, 10])
    new = to_initializers({"bias": bias}, {"bias": np.array([1.0, 2, 3, 4])}, old)
    np.testing.assert_array_equal(new["B"], [[1, 2, 3, 4, 0, 0, 0, 0]])
    np.testing.assert_array_equal(bias.read(new), [1, 2, 3, 4])


# --- shape arithmetic ----------------------------------------------------------------------------------------------


def integers(*numbers):
    tensor = ir.tensor(np.array(numbers if len(numbers) != 1 else numbers[0], np.int64))
    return ir.Value(name="c", shape=tensor.shape, type=ir.TensorType(INT64), const_value=tensor)


def text(elements):
    return [e if isinstance(e, int) else print_code(e, lambda v: v.name) for e in elements.items]


def test_a_chain_of_shape_ops_becomes_python():
    x = ir.val("x", dtype=FLOAT, shape=ir.Shape(["b", "t", 12]))
    shape = ir.node("Shape", [x]).outputs[0]
    batch = ir.node("Gather", [shape, integers(0)]).outputs[0]
    time = ir.node("Slice", [shape, _vector(1), _vector(2)]).outputs[0]
    double = ir.node("Mul", [ir.node("Add", [time, integers(1)]).outputs[0], integers(2)]).outputs[0]
    target = ir.node("Concat", [ir.node("Unsqueeze", [batch, _vector(0)]).outputs[0], double, _vector(-1)]).outputs[0]
    arithmetic = Arithmetic(lambda value, axis: code(f"{{}}.shape[{axis}]", value))
    assert text(arithmetic.elements(target)) == ["x.shape[0]", "(x.shape[1] + 1) * 2", -1]


def _vector(*numbers):
    tensor = ir.tensor(np.array(numbers, np.int64))
    return ir.Value(name="c", shape=tensor.shape, type=ir.TensorType(INT64), const_value=tensor)


def test_data_is_not_shape_arithmetic():
    ids = ir.val("ids", dtype=INT64, shape=ir.Shape([3]))
    arithmetic = Arithmetic(lambda value, axis: code("?"))
    assert arithmetic.elements(ir.node("Add", [ids, _vector(1)]).outputs[0]) is None


# --- literals, names, lines ----------------------------------------------------------------------------------------


@given(st.floats(width=32), st.booleans())
def test_float_literals_are_the_same_number(number, as_float32):
    value = np.float32(number) if as_float32 else float(number)
    back = eval(literal_text(value))
    np.testing.assert_array_equal(np.float32(back) if as_float32 else back, value)


@given(st.text(max_size=20))
@example("\\'")
def test_string_literals_and_identifiers_are_python(word):
    assert ast.literal_eval(literal_text(word)) == word
    assert identifier(word).isidentifier()


@pytest.mark.parametrize(
    ("word", "as_class", "as_snake"),
    [("BasicBlock", "BasicBlock", "basic_block"), ("res_block", "ResBlock", "res_block"), ("MLP", "MLP", "mlp")],
)
def test_class_and_function_names(word, as_class, as_snake):
    assert (class_name(word), snake_case(word)) == (as_class, as_snake)


# --- blocks and definitions ----------------------------------------------------------------------------------------


class Layers:
    """Builds models of Linear and Relu nodes with dotted names."""

    def __init__(self, size):
        self.x = ir.val("x", dtype=FLOAT, shape=ir.Shape(["batch", size]))
        self.nodes, self.weights = [], []
        self.rng = np.random.default_rng(0)

    def weight(self, name, *shape):
        tensor = ir.tensor(self.rng.normal(size=shape).astype(np.float32), name=name)
        value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(FLOAT), const_value=tensor)
        traits.set_kind(value, "parameter")
        self.weights.append(value)
        return value

    def linear(self, name, x, size_in, size_out, weights=None):
        w = weights or [self.weight(f"{name}.weight", size_out, size_in), self.weight(f"{name}.bias", size_out)]
        self.nodes.append(ir.node("Linear", [x, *w], domain="dlbridge", name=name))
        return self.nodes[-1].outputs[0]

    def op(self, op_type, name, *inputs):
        self.nodes.append(ir.node(op_type, list(inputs), name=name))
        return self.nodes[-1].outputs[0]

    def model(self, y, **blocks):
        y.name = "y"
        return Model.build("net", [self.x], [y], self.nodes, self.weights, blocks=blocks.get("blocks"))


def residual_stages():
    b = Layers(8)
    x = b.x
    for i, (n, m) in enumerate([(8, 8), (8, 16), (16, 16)]):
        y = b.op("Relu", f"stages.{i}.relu", b.linear(f"stages.{i}.fc", x, n, m))
        x = b.op("Add", f"stages.{i}.add", y, b.linear(f"stages.{i}.skip", x, n, m) if n != m else x)
    return b.model(x, blocks={f"stages.{i}": "ResBlock" for i in range(3)})


def same(model):
    """PyTorch's and onnxruntime's answers are the same; gives the source."""
    source = model.write("pytorch")
    pytorch, onnx = frameworks.get("pytorch"), frameworks.get("onnx")
    x = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    got = pytorch.run(pytorch.load(source), {"x": x})["y"]
    want = onnx.run(onnx.load(model.write("onnx")), {"x": x})["y"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    return source.text


def test_blocks_that_differ_by_a_step_are_one_class():
    text = same(residual_stages())
    assert text.count("class ResBlock") == 1
    assert "nn.Linear(in_features, out_features) if has_skip else nn.Identity()" in text


def test_state_dict_keys_are_the_initializers():
    model = residual_stages()
    assert set(model.to_pytorch().state_dict()) == set(model.graph.initializers)


def test_one_layer_called_twice_is_made_once():
    b = Layers(8)
    x = b.linear("shared", b.x, 8, 8)
    text = same(b.model(b.linear("again", b.op("Relu", "relu", x), 8, 8, weights=b.weights)))
    assert text.count("nn.Linear(") == 1
    assert text.count("self.shared(") == 2


def test_a_block_that_cannot_run_in_one_go_is_dissolved():
    b = Layers(8)
    a = b.linear("inner.first", b.x, 8, 8)
    x = b.op("Relu", "outside", a)
    text = same(b.model(b.op("Add", "inner.add", b.linear("inner.second", x, 8, 8), a)))
    assert "self.inner = nn.Module()" in text
    assert "self.inner.second(" in text


def test_weights_tied_across_layers_stay_tied():
    b = Layers(8)
    w = b.weight("first.weight", 8, 8)
    x = b.linear("first", b.x, 8, 8, weights=[w, b.weight("first.bias", 8)])
    model = b.model(b.linear("second", x, 8, 8, weights=[w, b.weight("second.bias", 8)]))
    same(model)
    module = model.to_pytorch()
    assert module.first.weight is module.second.weight


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
def test_names_that_are_words_of_python(framework):
    """A person may call a layer ``in`` and a model ``3d``; both are in the frameworks' own names as they are."""
    text = """
dlbridge: 1
name: 3d
inputs: {x: {dtype: float32, shape: [batch, 4]}}
blocks: {lambda: {nodes: [{name: in, op: Linear, features: 3}, {op: Softmax}, {name: class, op: LayerNormalization}]}}
nodes: [{name: if, block: lambda}, {name: def, block: lambda}]
outputs: {for: def}
"""
    model = description.load(text)
    written = frameworks.get(framework)
    source = written.write(model)
    live = written.load(source)
    assert source.execute()[source.entry]
    x = np.ones((2, 4), np.float32)
    direct = frameworks.get("onnx")
    expected = direct.run(direct.load(direct.write(model)), {"x": x})["for"]
    np.testing.assert_allclose(written.run(live, {"x": x})["for"], expected, rtol=1e-5, atol=1e-6)
    if framework == "pytorch":
        assert "if.in.weight" in live.state_dict()
    else:
        assert live.name == "3d"


def test_a_source_at_the_prompt_is_one_line():
    source = dlbridge.load(EXAMPLES / "mlp_784.yaml").write("pytorch")
    assert repr(source).startswith("<Source of mlp_784 for pytorch: ") and len(repr(source)) < 80
