"""passes.downgrade: each op that older opsets lack or say otherwise, run by onnxruntime against the newest form."""

import functools

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, UnsupportedOpError
from dlbridge.model import Model
from dlbridge.passes import shapes
from dlbridge.passes.downgrade import downgrade

X = np.random.default_rng(0).normal(size=(2, 6, 4, 5)).astype("float32")


def _text(signature: str, body: str) -> str:
    return f'<ir_version: 10, opset_import: ["": 28]> g {signature} {{ {body} }}'


def _check(signature: str, body: str, opset: int, *arrays: np.ndarray, expected=None, rtol=2e-6) -> ir.Model:
    text = _text(signature, body)
    proto = onnx.parser.parse_model(text)
    feed = dict(zip((i.name for i in proto.graph.input), arrays, strict=True))
    source = frameworks.get("onnx").write(_named(Model(ir.from_onnx_text(text))), opset=opset)  # runs the checker
    written, result = source.ir, ir.to_proto(source.ir)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(result.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = session.run(None, feed)
    wanted = ReferenceEvaluator(proto).run(None, feed) if expected is None else expected
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
        assert a.dtype == b.dtype
    assert {o.name for o in session.get_outputs()} == {o.name for o in proto.graph.output}
    return written


def _named(model: Model) -> Model:
    for index, node in enumerate(model.graph.all_nodes()):
        node.name = f"block.{node.op_type.lower()}{index}"
    return model


_IMAGE = "(float[n, 6, h, w] x) => (y)"
_OPS = {
    "gelu": "y = Gelu(x)",
    "gelu_tanh": 'y = Gelu<approximate = "tanh">(x)',
    "swish": "y = Swish(x)",
    "swish_alpha": "y = Swish<alpha = 1.7>(x)",
    "mish": "y = Mish(x)",
    "hard_swish": "y = HardSwish(x)",
    "layer_norm": "s = Constant<value_floats = [1.0, 2.0, 3.0, 4.0, 5.0]>() y = LayerNormalization(x, s, s)",
    "layer_norm_axis": "o = Constant<value_float = 2.0>() p = Shape<start = 1>(x) s = Expand(o, p) "
    "y = LayerNormalization<axis = 1, epsilon = 0.01>(x, s)",
    "rms_norm": "s = Constant<value_floats = [1.0, 2.0, 3.0, 4.0, 5.0]>() y = RMSNormalization<epsilon = 0.1>(x, s)",
    "group_norm": "s = Constant<value_floats = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]>() "
    "y = GroupNormalization<num_groups = 3>(x, s, s)",
    "reduce_mean": "a = Constant<value_ints = [-1, 2]>() y = ReduceMean<keepdims = 0>(x, a)",
    "reduce_max_all": "y = ReduceMax(x)",
    "reduce_l2": "a = Constant<value_ints = [1]>() y = ReduceL2(x, a)",
    "reduce_sum_square_noop": "y = ReduceSumSquare<noop_with_empty_axes = 1>(x)",
    "reduce_bool": "z = Constant<value_float = 0.0>() b = Greater(x, z) a = Constant<value_ints = [1]>() "
    "m = ReduceMax<keepdims = 0>(b, a) y = Cast<to = 1>(m)",
    "split_uneven": "p, y = Split<num_outputs = 2, axis = -1>(x)",
    "split_uneven_static": "p, q, r, y = Split<num_outputs = 4, axis = 1>(x)",
    "shape_part": "s = Shape<start = -3, end = -1>(x) y = Cast<to = 1>(s)",
    "mod_float": "z = Constant<value_float = -0.7>() y = Mod(x, z)",
    "cumprod": "a = Constant<value_int = 1>() y = CumProd(x, a)",
    "cumprod_exclusive": "a = Constant<value_int = -1>() y = CumProd<exclusive = 1>(x, a)",
    "cumprod_back": "a = Constant<value_int = 0>() y = CumProd<exclusive = 1, reverse = 1>(x, a)",
    "trilu": "y = Trilu<upper = 0>(x)",
    "trilu_k": "k = Constant<value_int = 2>() y = Trilu(x, k)",
    "pad_axes": "p = Constant<value_ints = [1, 0, 0, 2]>() a = Constant<value_ints = [-1, 1]>() y = Pad(x, p, , a)",
    "pad_reflect": "p = Constant<value_ints = [1, 2]>() a = Constant<value_ints = [2]>() "
    'y = Pad<mode = "reflect">(x, p, , a)',
    "resize_scales": 's = Constant<value_floats = [2.0, 1.5]>() y = Resize<axes = [2, 3], mode = "linear">(x, , s)',
    "resize_sizes": "s = Constant<value_ints = [7, 3]>() "
    'y = Resize<axes = [3, 2], mode = "nearest", nearest_mode = "floor">(x, , , s)',
    "average_pool": "y = AveragePool<kernel_shape = [2, 3], dilations = [1, 1], ceil_mode = 1>(x)",
    "lp_pool": "y = LpPool<kernel_shape = [2, 2], p = 2>(x)",
    "clip": "a = Constant<value_float = -0.5>() y = Clip(x, a)",
    "softplus": "y = Softplus(x)",
    "elu": "y = Elu<alpha = 0.3>(x)",
    "celu": "y = Celu<alpha = 0.3>(x)",
    "reshape_allowzero": "s = Constant<value_ints = [-1, 5]>() y = Reshape<allowzero = 1>(x, s)",
    "cast_like": "i = Constant<value_ints = [1, 2, 3, 4, 5]>() c = CastLike(i, x) y = Mul(x, c)",
    "dropout": "r = Constant<value_float = 0.5>() y = Dropout(x, r)",
    "if": "t = Constant<value = bool {1}>() y = If(t) <then_branch = g1 () => (a) { a = Gelu(x) }, "
    "else_branch = g2 () => (b) { b = Swish(x) }>",
    "identity": "y = Identity(x)",
    "top_k": "k = Constant<value_ints = [2]>() y, i = TopK(x, k)",
    "bias_gelu_twice": "g = Gelu(x) y = Gelu(g)",
}


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("case", _OPS)
def test_op(case, opset):
    rtol = 2e-5 if "norm" in case else 2e-6
    _check(_IMAGE, _OPS[case], opset, X, rtol=rtol)


@pytest.mark.parametrize("opset", range(13, 29))
def test_every_opset(opset):
    body = (
        f"{_OPS['group_norm']} ".replace("y =", "g =")
        + """
        a = Gelu(g) b = Swish(a) c = Elu(b) axes = Constant<value_ints = [2, 3]>()
        m = ReduceMean<keepdims = 0>(c, axes) d, e = Split<num_outputs = 2, axis = 1>(m) y = Add(d, e)"""
    )
    if opset > 24:  # onnxruntime 1.32 has no kernel for Swish beyond its first opset
        body = body.replace("Swish(a)", "Mish(a)")
    written = _check(_IMAGE, body, opset, X, rtol=2e-5, expected=_expected(_IMAGE, body))
    assert written.graph.opset_imports[""] == opset


@functools.cache
def _expected(signature: str, body: str):
    proto = onnx.parser.parse_model(_text(signature, body))
    return ReferenceEvaluator(proto).run(None, {"x": X})


@pytest.mark.parametrize("opset", [13, 18, 23])
@pytest.mark.parametrize("attributes", ["", "is_causal = 1, ", "scale = 0.3, softcap = 2.0, "])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_attention(opset, attributes, kv_heads):
    q, kv = (np.random.default_rng(n).normal(size=(2, 5, n)).astype("float32") for n in (8, 2 * kv_heads))
    body = f"y = Attention<{attributes} q_num_heads = 4, kv_num_heads = {kv_heads}>(q, k, v)"
    key = f"float[b, s, {2 * kv_heads}]"
    _check(f"(float[b, s, 8] q, {key} k, {key} v) => (y)", body, opset, q, kv, kv[::-1].copy(), rtol=1e-5)


@pytest.mark.parametrize("opset", [13, 22])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_attention_with_a_mask_on_heads(opset, kind):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 3, n, 4)).astype("float32") for n in (5, 6, 6))
    mask = rng.normal(size=(5, 6)).astype("float32") if kind == "float" else rng.random((5, 6)) > 0.4
    signature = f"(float[b, 3, 5, 4] q, float[b, 3, 6, 4] k, float[b, 3, 6, 4] v, {kind}[5, 6] m) => (y)"
    _check(signature, "y = Attention(q, k, v, m)", opset, q, k, v, mask, rtol=1e-5)
    signature = "(float[b, 3, t, 4] q, float[b, 3, s, 4] k, float[b, 3, s, 4] v) => (y)"
    written = _check(signature, "y = Attention<is_causal = 1>(q, k, v)", opset, q, k, v, rtol=1e-5)
    assert opset == 13 or len(written.graph) < 10


@pytest.mark.parametrize("attributes", ["interleaved = 0", "interleaved = 1", "rotary_embedding_dim = 4"])
def test_rotary_embedding(attributes):
    half = 2 if "dim" in attributes else 4
    x = np.random.default_rng(1).normal(size=(2, 3, 4, 8)).astype("float32")
    cos, sin = (np.random.default_rng(n).normal(size=(2, 4, half)).astype("float32") for n in (2, 3))
    signature = f"(float[b, 3, s, 8] x, float[b, s, {half}] c, float[b, s, {half}] z) => (y)"
    _check(signature, f"y = RotaryEmbedding<{attributes}>(x, c, z)", 17, x, cos, sin)


def test_rotary_embedding_by_positions():
    x = np.random.default_rng(1).normal(size=(2, 4, 16)).astype("float32")
    cos, sin = (np.random.default_rng(n).normal(size=(9, 4)).astype("float32") for n in (2, 3))
    signature = "(float[b, s, 16] x, float[9, 4] c, float[9, 4] z, int64[b, s] p) => (y)"
    body = "y = RotaryEmbedding<num_heads = 2>(x, c, z, p)"
    _check(signature, body, 17, x, cos, sin, np.array([[0, 3, 8, 1]] * 2))


def test_a_pooling_window_that_starts_in_the_padding_is_none():
    x = X[:, :, :2, :2].copy()
    for op in ("MaxPool", "AveragePool"):
        body = f"y = {op}<ceil_mode = 1, kernel_shape = [1, 1], strides = [2, 2]>(x)"
        _check("(float[n, 6, 2, 2] x) => (y)", body, 13, x)


def test_layer_norm_keeps_its_digits_on_a_large_mean():
    x = X + 1000
    body = "s = Constant<value_floats = [1.0, 1.0, 1.0, 1.0, 1.0]>() y = LayerNormalization(x, s)"
    exact = (x - x.mean(-1, keepdims=True, dtype="float64")) / np.sqrt(x.var(-1, keepdims=True, dtype="float64") + 1e-5)
    _check(_IMAGE, body, 16, x, expected=[exact.astype("float32")], rtol=1e-3)


def test_batch_first_lstm_runs_in_onnxruntime():
    rng = np.random.default_rng(0)
    x, w, r = (rng.normal(size=s).astype("float32") for s in ((3, 4, 5), (1, 8, 5), (1, 8, 2)))
    signature = "(float[b, s, 5] x, float[1, 8, 5] w, float[1, 8, 2] r) => (y, h)"
    _check(signature, "y, h, c = LSTM<hidden_size = 2, layout = 1>(x, w, r)", 24, x, w, r, rtol=1e-5)


def test_names_follow_the_node():
    written = _check(_IMAGE, _OPS["gelu"], 17, X)
    names = [n.name for n in written.graph]
    assert all(n.startswith("block.gelu0_") for n in names) and len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("body", "opset", "lowest"),
    [
        ("c = Cast<to = 7>(x) b = BitwiseNot(c) y = Cast<to = 1>(b)", 17, 18),
        ("b = BitCast<to = 6>(x) y = Cast<to = 1>(b)", 18, 26),
        ("y = AveragePool<kernel_shape = [2, 2], dilations = [2, 1]>(x)", 18, 19),
        (
            'p = Constant<value_ints = [1, 1]>() a = Constant<value_ints = [2]>() y = Pad<mode = "wrap">(x, p, , a)',
            18,
            19,
        ),
        ("c = Cast<to = 16>(x) d = Sin(c) y = Cast<to = 1>(d)", 21, 22),
    ],
)
def test_what_cannot_be_said_names_the_op_and_the_lowest_opset(body, opset, lowest):
    model = _named(Model(ir.from_onnx_text(_text(_IMAGE, body))))
    shapes.infer(model.ir)
    with pytest.raises(UnsupportedOpError, match=f"block.*lowest opset that has it is {lowest}"):
        downgrade(model.clone().ir, opset)
    downgrade(model.ir, lowest)
    assert model.graph.opset_imports[""] == lowest


def test_all_ops_that_cannot_be_said_are_named():
    model = _named(Model(ir.from_onnx_text(_text(_IMAGE, "b = BitCast<to = 6>(x) y = BitCast<to = 1>(b)"))))
    with pytest.raises(UnsupportedOpError, match=r"(?s)bitcast0.*bitcast1"):
        downgrade(model.ir, 18)


@pytest.mark.parametrize("opset", [12, 29])
def test_no_such_opset(opset):
    with pytest.raises(DlbridgeError, match="13 to 28"):
        downgrade(ir.from_onnx_text(_text(_IMAGE, "y = Relu(x)")), opset)
