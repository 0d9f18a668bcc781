"""passes.lift: each pattern becomes its layer, and in float64 the numbers stay."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from dlbridge.model import Model
from dlbridge.passes import fold, shapes
from dlbridge.passes.lift import lift
from dlbridge.passes.lift.pattern import with_scalar
from dlbridge.passes.matching import Match

RNG = np.random.default_rng(0)
X = "double[batch, 3, 8] x"
HEADS = "double[batch, 3, 5, 6] x"
IMAGE = "double[batch, 4, 5, 6] x"
#: Constants that patterns are written with.
CONSTANTS = {
    "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "six": 6.0, "zero": 0.0, "sixth": 1 / 6, "slope": 0.3,
    "sqrt2": 2**0.5, "rsqrt2": 0.5**0.5, "root2pi": (2 / np.pi) ** 0.5, "a": 0.044715, "twenty": 20.0,
    "eps": 1e-3, "beta": 1.7,
}  # fmt: skip
#: name -> (inputs, body, weights, ops after).
CASES = {
    "softplus with its threshold": (
        X,
        """g = Greater(x, twenty) e = Exp(x) p = Add(e, one) s = Log(p) y = Where(g, x, s)""",
        {},
        "Softplus",
    ),
    "softplus that is cut off": (
        X,
        "g = Greater(x, two) s = Softplus(x) y = Where(g, x, s)",
        {},
        "Greater Softplus Where",
    ),
    "linear": (X, "y = MatMul(x, W)", {"W": (8, 5)}, "Linear"),
    "linear with bias": (X, "h = MatMul(x, W) y = Add(h, B)", {"W": (8, 5), "B": (5,)}, "Linear"),
    "bias first": (X, "h = MatMul(x, W) y = Add(B, h)", {"W": (8, 5), "B": (1, 5)}, "Linear"),
    "linear of a turned weight": (X, "t = Transpose(W) y = MatMul(x, t)", {"W": (5, 8)}, "Linear"),
    "gemm": ("double[batch, 8] x", "y = Gemm(x, W, B)", {"W": (8, 5), "B": (5,)}, "Linear"),
    "gemm turned": ("double[batch, 8] x", "y = Gemm<transB = 1>(x, W)", {"W": (5, 8)}, "Linear"),
    "gemm scaled stays": ("double[batch, 8] x", "y = Gemm<alpha = 0.5>(x, W)", {"W": (8, 5)}, "Gemm"),
    "product of values stays": (X, "t = Transpose<perm = [0, 2, 1]>(x) y = MatMul(x, t)", {}, "Transpose MatMul"),
    "a wide bias stays": (X, "h = MatMul(x, W) y = Add(h, B)", {"W": (8, 5), "B": (3, 5)}, "Linear Add"),
    "linear read twice": (
        X,
        "h = MatMul(x, W) b = Add(h, B) y = Mul(b, h)",
        {"W": (8, 5), "B": (5,)},
        "Linear Add Mul",
    ),
    "linear of rows": (
        X,
        """r = Constant<value_ints = [-1, 8]>() f = Reshape(x, r) h = MatMul(f, W)
        s = Constant<value_ints = [-1, 3, 5]>()
        b = Reshape(h, s) y = Add(b, B)""",
        {"W": (8, 5), "B": (5,)},
        "Linear",
    ),
    "linear of other rows stays": (
        X,
        """r = Constant<value_ints = [-1, 8]>() f = Reshape(x, r) h = MatMul(f, W)
        s = Constant<value_ints = [-1, 5, 3]>()
        y = Reshape(h, s)""",
        {"W": (8, 5)},
        "Reshape Linear Reshape",
    ),
    "embedding": ("int64[batch, 3] x", "y = Gather(W, x)", {"W": (9, 4)}, "Embedding"),
    "gelu torch": (X, "d = Div(x, sqrt2) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)", {}, "Gelu"),
    "gelu tf2onnx": (X, "d = Mul(x, rsqrt2) e = Erf(d) p = Add(one, e) h = Mul(half, x) y = Mul(h, p)", {}, "Gelu"),
    "gelu half behind": (X, "d = Div(x, sqrt2) e = Erf(d) p = Add(e, one) h = Mul(p, half) y = Mul(x, h)", {}, "Gelu"),
    "gelu keras": (
        X,
        "n = Neg(x) d = Mul(n, rsqrt2) e = Erf(d) p = Sub(one, e) h = Mul(half, x) y = Mul(h, p)",
        {},
        "Gelu",
    ),
    "gelu of the other sign stays": (
        X,
        "d = Mul(x, rsqrt2) e = Erf(d) p = Sub(one, e) h = Mul(half, x) y = Mul(h, p)",
        {},
        "Mul Erf Sub Mul Mul",
    ),
    "gelu of a product": (
        X,
        "z = Mul(x, three) d = Div(z, sqrt2) e = Erf(d) p = Add(e, one) m = Mul(z, p) y = Mul(m, half)",
        {},
        "Mul Gelu",
    ),
    "gelu tanh": (
        X,
        """c = Pow(x, three) s = Mul(c, a) t = Add(x, s) u = Mul(t, root2pi) v = Tanh(u) w = Add(v, one)
        h = Mul(x, half) y = Mul(h, w)""",
        {},
        "Gelu",
    ),
    "gelu tanh of products": (
        X,
        """q = Mul(x, x) c = Mul(q, x) s = Mul(a, c) t = Add(x, s) u = Mul(root2pi, t) v = Tanh(u) w = Add(one, v)
        h = Mul(half, w) y = Mul(x, h)""",
        {},
        "Gelu",
    ),
    "gelu tanh factored": (
        X,
        """q = Mul(x, x) s = Mul(a, q) t = Add(one, s) m = Mul(x, root2pi) u = Mul(m, t) v = Tanh(u) w = Add(one, v)
        h = Mul(half, x) y = Mul(h, w)""",
        {},
        "Gelu",
    ),
    "not gelu": (
        X,
        "d = Div(x, two) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)",
        {},
        "Div Erf Add Mul Mul",
    ),
    "swish": (X, "s = Sigmoid(x) y = Mul(x, s)", {}, "Swish"),
    "swish with beta": (X, "b = Mul(x, beta) s = Sigmoid(b) y = Mul(s, x)", {}, "Swish"),
    "mish": (X, "e = Exp(x) p = Add(e, one) s = Log(p) t = Tanh(s) y = Mul(x, t)", {}, "Mish"),
    "hard swish": (X, "p = Add(x, three) c = Clip(p, zero, six) m = Mul(x, c) y = Div(m, six)", {}, "HardSwish"),
    "hard swish of hard sigmoid": (
        X,
        "p = Add(x, three) c = Clip(p, zero, six) s = Div(c, six) y = Mul(x, s)",
        {},
        "HardSwish",
    ),
    "hard sigmoid": (X, "p = Add(x, three) c = Clip(p, zero, six) y = Mul(c, sixth)", {}, "HardSigmoid"),
    "leaky relu": (X, "s = Mul(slope, x) y = Max(x, s)", {}, "LeakyRelu"),
    "softsign": (X, "m = Abs(x) p = Add(m, one) y = Div(x, p)", {}, "Softsign"),
    "layer norm torch": (
        X,
        """m = ReduceMean(x, last) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, last) p = Add(v, eps) r = Sqrt(p)
        n = Div(d, r) s = Mul(n, G) y = Add(s, B)""",
        {"G": (8,), "B": (8,)},
        "LayerNormalization",
    ),
    "layer norm by reciprocal, two axes": (
        X,
        """m = ReduceMean(x, both) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, both) p = Add(v, eps) r = Sqrt(p)
        i = Reciprocal(r) n = Mul(d, i) s = Mul(G, n) y = Add(B, s)""",
        {"G": (3, 8), "B": (3, 8)},
        "LayerNormalization",
    ),
    "layer norm of two differences, no weights": (
        X,
        """m = ReduceMean(x, last) d = Sub(x, m) e = Sub(x, m) q = Mul(e, e) v = ReduceMean(q, last) p = Add(v, eps)
        r = Sqrt(p) y = Div(d, r)""",
        {},
        "LayerNormalization",
    ),
    "layer norm on a middle axis stays": (
        X,
        """m = ReduceMean(x, middle) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, middle) p = Add(v, eps)
        r = Sqrt(p) y = Div(d, r)""",
        {},
        "ReduceMean Sub Mul ReduceMean Add Sqrt Div",
    ),
    "rms norm": (
        X,
        """q = Pow(x, two) v = ReduceMean(q, last) p = Add(v, eps) r = Sqrt(p) i = Div(one, r) n = Mul(x, i)
        y = Mul(G, n)""",
        {"G": (8,)},
        "RMSNormalization",
    ),
    "layer norm keras": (
        X,
        """m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) p = Add(v, eps) r = Sqrt(p)
        i = Reciprocal(r) s = Mul(i, G) t = Mul(x, s) n = Neg(m) o = Mul(n, s) b = Add(o, B) y = Add(t, b)""",
        {"G": (1, 1, 8), "B": (1, 1, 8)},
        "LayerNormalization",
    ),
    "layer norm keras, pooled, no weights": (
        X,
        """m = GlobalAveragePool(x) d = Sub(x, m) q = Mul(d, d) v = GlobalAveragePool(q) p = Add(v, eps) r = Sqrt(p)
        i = Reciprocal(r) t = Mul(x, i) n = Neg(m) o = Mul(n, i) y = Add(t, o)""",
        {},
        "LayerNormalization",
    ),
    "lstm from zeros": (
        "double[7, batch, 3] x",
        """s = Shape<start = 1, end = 2>(x) d = Constant<value_ints = [1]>() h = Constant<value_ints = [4]>()
        t = Concat<axis = 0>(d, s, h) z = ConstantOfShape<value = double[1] {0.0}>(t)
        y = LSTM<hidden_size = 4>(x, W, R, , , z, z)""",
        {"W": (1, 16, 3), "R": (1, 16, 4)},
        "LSTM",
    ),
    "attention": (
        HEADS,
        """q, k, v = Split<num_outputs = 3, axis = -1>(x) t = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(q, t)
        f = Div(s, two) p = Softmax(f) y = MatMul(p, v)""",
        {},
        "Split Attention",
    ),
    "attention with mask and scales on both": (
        HEADS,
        """q, k, v = Split<num_outputs = 3, axis = -1>(x) t = Transpose<perm = [0, 1, 3, 2]>(k) a1 = Mul(q, half)
        b1 = Mul(sqrt2, t) s = MatMul(a1, b1) f = Add(s, M) p = Softmax(f) y = MatMul(p, v)""",
        {"M": (1, 1, 5, 5)},
        "Split Attention",
    ),
    "attention with capped scores": (
        HEADS,
        """q, k, v = Split<num_outputs = 3, axis = -1>(x) t = Transpose<perm = [0, 1, 3, 2]>(k) s0 = MatMul(q, t)
        s = Mul(half, s0) d = Div(s, two) u = Tanh(d) w = Mul(u, two) f = Add(w, M) p = Softmax(f)
        e = Dropout(p, zero) y = MatMul(e, v)""",
        {"M": (1, 1, 5, 5)},
        "Split Attention",
    ),
    "attention with scores capped by another number stays": (
        HEADS,
        """q, k, v = Split<num_outputs = 3, axis = -1>(x) t = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(q, t)
        d = Div(s, two) u = Tanh(d) w = Mul(u, three) p = Softmax(w) y = MatMul(p, v)""",
        {},
        "Split Transpose MatMul Div Tanh Mul Softmax MatMul",
    ),
    "attention of keys turned at once": (
        "double[batch, 5, 3, 6] x",
        """q0, k, v0 = Split<num_outputs = 3, axis = -1>(x) t = Transpose<perm = [0, 2, 3, 1]>(k)
        q = Transpose<perm = [0, 2, 1, 3]>(q0) v = Transpose<perm = [0, 2, 1, 3]>(v0) s = MatMul(q, t)
        p = Softmax(s) y = MatMul(p, v)""",
        {},
        "Split Transpose Transpose Transpose Attention",
    ),
    "attention of torch.onnx": (
        HEADS,
        """q, k, v = Split<num_outputs = 3, axis = -1>(x) c = Constant<value_ints = [-1, 5, 2]>() k3 = Reshape(k, c)
        t3 = Transpose<perm = [0, 2, 1]>(k3) e = Constant<value_ints = [-1, 3, 2, 5]>() t = Reshape(t3, e)
        a1 = Mul(q, half) b1 = Mul(t, half) s = MatMul(a1, b1) p = Softmax(s) y = MatMul(p, v)""",
        {},
        "Split Attention",
    ),
    "attention guarded by torch.onnx": (
        HEADS,
        """q, k, v = Split<num_outputs = 3, axis = -1>(x) t = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(q, t)
        p = Softmax(s) n = IsNaN(p) g = Where(n, zero, p) y = MatMul(g, v)""",
        {},
        "Split Attention",
    ),
    "attention guarded by ones stays": (
        HEADS,
        """q, k, v = Split<num_outputs = 3, axis = -1>(x) t = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(q, t)
        p = Softmax(s) n = IsNaN(p) g = Where(n, one, p) y = MatMul(g, v)""",
        {},
        "Split Transpose MatMul Softmax IsNaN Where MatMul",
    ),
    "attention with groups of heads": (
        "double[batch, 8, 5, 2] x",
        """q, k, v = Split<axis = 1>(x, parts) k1 = Unsqueeze(k, two_i) v1 = Unsqueeze(v, two_i) e = Expand(k1, twice)
        f = Expand(v1, twice) r = Reshape(e, four) w = Reshape(f, four) t = Transpose<perm = [0, 1, 3, 2]>(r)
        s = MatMul(q, t) p = Softmax(s) y = MatMul(p, w)""",
        {},
        "Split Attention",
    ),
    "attention with heads repeated in turn stays": (
        "double[batch, 8, 5, 2] x",
        """q, k, v = Split<axis = 1>(x, parts) k1 = Unsqueeze(k, one_i) v1 = Unsqueeze(v, one_i)
        e = Expand(k1, twice_before) f = Expand(v1, twice_before) r = Reshape(e, four) w = Reshape(f, four)
        t = Transpose<perm = [0, 1, 3, 2]>(r)
        s = MatMul(q, t) p = Softmax(s) y = MatMul(p, w)""",
        {},
        "Split Unsqueeze Unsqueeze Expand Expand Reshape Reshape Attention",
    ),
    "attention with a bias of scores stays when it is read twice": (
        HEADS,
        """q, k, v = Split<num_outputs = 3, axis = -1>(x) t = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(q, t)
        p = Softmax(s) o = MatMul(p, v) r = ReduceSum(p, last) y = Add(o, r)""",
        {},
        "Split Transpose MatMul Softmax MatMul ReduceSum Add",
    ),
    "group norm torch": (
        IMAGE,
        """t = Constant<value_ints = [0, 2, -1]>() g = Reshape(x, t)
        n = InstanceNormalization<epsilon = 0.01>(g, ones2, zeros2)
        o = Shape(x) b = Reshape(n, o) s = Mul(b, G) y = Add(s, B)""",
        {"G": (4, 1, 1), "B": (4, 1, 1)},
        "GroupNormalization",
    ),
    "mean over space": (IMAGE, "y = ReduceMean(x, space)", {}, "GlobalAveragePool"),
    "maximum over space, dropped": (IMAGE, "y = ReduceMax<keepdims = 0>(x, space)", {}, "GlobalMaxPool Flatten"),
    "mean over keras space": (
        IMAGE,
        "t = Transpose<perm = [0, 2, 3, 1]>(x) y = ReduceMean<keepdims = 0>(t, one_two)",
        {},
        "GlobalAveragePool Flatten",
    ),
    "transposes cancel": (
        IMAGE,
        "t = Transpose<perm = [0, 2, 3, 1]>(x) u = Transpose<perm = [0, 3, 1, 2]>(t) y = Relu(u)",
        {},
        "Relu",
    ),
    "transposes join": (
        IMAGE,
        "t = Transpose<perm = [0, 2, 3, 1]>(x) y = Transpose<perm = [0, 2, 1, 3]>(t)",
        {},
        "Transpose",
    ),
}


def _model(inputs: str, body: str, weights: dict[str, tuple[int, ...]]) -> Model:
    text = f'<ir_version: 10, opset_import: ["": 28, "dlbridge": 1]> g ({inputs}) => (double y) {{ {body} }}'
    model = Model(ir.from_onnx_text(text))
    arrays = {name: np.asarray(number) for name, number in CONSTANTS.items()}
    arrays |= {n: np.asarray(v) for n, v in {"last": [-1], "both": [1, 2], "middle": [1], "space": [2, 3]}.items()}
    lists = {"parts": [4, 2, 2], "one_i": [1], "two_i": [2], "four": [0, 4, 5, 2]}
    lists |= {"twice": [1, 1, 2, 1, 1], "twice_before": [1, 2, 1, 1, 1]}
    arrays |= {name: np.asarray(numbers) for name, numbers in lists.items()}
    arrays |= {"one_two": np.asarray([1, 2]), "ones2": np.ones(2), "zeros2": np.zeros(2)}
    arrays |= {name: RNG.normal(size=shape) for name, shape in weights.items()}
    by_name = {v.name: v for node in model.graph for v in node.inputs if v is not None}
    for number, node in enumerate(model.graph):
        node.name = f"n{number}"
    for name, numbers in arrays.items():
        if name in by_name:
            value = by_name[name]
            value.const_value = ir.tensor(numbers, name=name)
            model.graph.register_initializer(value)
            if name in weights:
                value.metadata_props["dlbridge.kind"] = "parameter"
    model.outputs[0].shape = None
    shapes.infer(model.ir)
    fold.fold(model.ir)
    return model


def _run(model: Model, x: np.ndarray) -> np.ndarray:
    return ReferenceEvaluator(ir.to_proto(model.ir)).run(None, {"x": x})[0]


@pytest.mark.parametrize("name", CASES)
def test_pattern(name):
    inputs, body, weights, ops = CASES[name]
    model = _model(inputs, body, weights)
    if "int64" in inputs:
        x = RNG.integers(0, 9, (2, 3))
    else:
        x = RNG.normal(
            size=[
                2 if d == "batch" else d for d in (v if isinstance(v, int) else v.value for v in model.inputs[0].shape)
            ]
        )
    before = _run(model, x)
    lift(model.ir)
    fold.fold(model.ir)
    shapes.infer(model.ir)
    assert " ".join(n.op_type for n in model.graph) == ops
    assert len({n.name for n in model.graph}) == len(list(model.graph))
    # scale and epsilon are float32 attributes
    np.testing.assert_allclose(_run(model, x), before, rtol=1e-6, atol=1e-7 if "Attention" in ops else 1e-9)
    for weight in weights:
        assert any(v.metadata_props.get("dlbridge.kind") == "parameter" for v in model.graph.initializers.values()), (
            weight
        )


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("y = Mul(two, x)", ("x", 2)),
        ("y = Sub(x, two)", ("x", 2)),
        ("y = Sub(two, x)", None),
        ("y = Div(two, x)", None),
    ],
)
def test_which_operand_of_a_difference_is_the_number_matters(body, found):
    node = Match(next(iter(_model(X, body, {}).graph)))
    number = with_scalar(node)
    assert (number and (number[0].name, number[1])) == found


def test_names_follow_the_layer():
    model = _model(X, "h = MatMul(x, W) b = Add(h, B) y = Gelu(b)", {"W": (8, 5), "B": (5,)})
    for node, name in zip(model.graph, ("block.fc.matmul", "block.fc.add", "block.act"), strict=True):
        node.name = name
    model.graph.initializers["W"].name = "block.fc.weight"
    lift(model.ir)
    assert [n.name for n in model.graph] == ["block.fc", "block.act"]


def test_a_bias_behind_a_computed_matrix_stays():
    text = """<ir_version: 10, opset_import: ["": 28, "dlbridge": 1]>
        g (float[n, 8] x, float[5, 8] w) => (float[n, 5] y) <float[5] b = {1, 2, 3, 4, 5}> {
            h = dlbridge.Linear(x, w)
            y = Add(h, b)
        }"""
    model = Model(ir.from_onnx_text(text))
    shapes.infer(model.ir)
    lift(model.ir)
    assert [n.op_type for n in model.graph] == ["Linear", "Add"]


@pytest.mark.parametrize(
    ("body", "stays"),
    [
        ("m = Abs(x) p = Add(m, one) y = Div(x, p)", "Abs Add Div"),
        ("e = Exp(x) p = Add(e, one) y = Log(p)", "Exp Add Log"),
        ("s = Mul(x, one) y = Max(x, s)", "Mul Max"),
        ("s = Mul(x, one) q = Sigmoid(s) y = Mul(x, q)", "Mul Sigmoid Mul"),
        ("d = Div(x, one) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, one)", "Div Erf Add Mul Mul"),
    ],
)
def test_a_constant_that_gives_the_result_more_axes_is_no_number(body, stays):
    ports = "(float[n, 3] x) => (float[1, 1, n, 3] y) <float[1, 1, 1, 1] one = {1.0}>"
    model = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["": 28]> g {ports} {{ {body} }}')
    shapes.infer(model)
    lift(model)
    assert [node.op_type for node in model.graph] == stays.split()
