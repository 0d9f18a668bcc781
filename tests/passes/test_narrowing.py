"""passes.narrowing: a model in a narrow float type, in which what needs float32 keeps it."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from dlbridge.errors import DlbridgeError
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes import narrowing, rounding, shapes

HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT


def _model(body: str, inputs: str, weights: dict[str, np.ndarray], constants: str = "") -> Model:
    """A graph ``body`` -> y, whose weights are parameters."""
    sizes = ", ".join(f"float[{','.join(map(str, a.shape))}] {name}" for name, a in weights.items())
    taken = ", ".join(filter(None, (inputs, sizes)))
    text = f'<ir_version: 10, opset_import: ["": 24]> g ({taken}) => (y) {constants} {{ {body} }}'
    model = Model(ir.from_onnx_text(text))
    for value in [v for v in model.graph.inputs if v.name in weights]:
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(weights[value.name].astype(np.float32), name=value.name)
        model.graph.register_initializer(value)
        traits.set_kind(value, "parameter")
    for node in model.graph:
        node.name = (node.name or "").replace("__", ".")  # which ONNX' text has no place for
    shapes.infer(model.ir)
    return model


def _run(model: ir.Model, **arrays: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return ReferenceEvaluator(ir.to_proto(model)).run(None, arrays)[0]


def _types(model: Model) -> dict[str, ir.DataType]:
    return {node.name: node.outputs[0].dtype for node in model.graph}


def _weight(*sizes: int, scale: float = 0.3) -> np.ndarray:
    return (np.random.default_rng(1).normal(size=sizes) * scale).astype(np.float32)


X = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)


def test_products_are_narrowed_and_normalisations_and_softmax_are_not():
    model = _model(
        """[fc] a = MatMul(x, W) [norm] b = LayerNormalization(a, scale)
           [scores] c = Add(b, offset) [soft] y = Softmax(c)""",
        "float[batch,8] x",
        {"W": _weight(8, 8), "scale": np.ones(8)},
        "<float[8] offset = {1,2,3,4,5,6,7,8}>",
    )
    lowered = narrowing.lower(model, "float16")
    types = _types(lowered)
    assert types["fc"] == HALF
    assert (types["norm"], types["scores"], types["soft"]) == (FLOAT, FLOAT, FLOAT)
    assert lowered.graph.initializers["W"].dtype == HALF
    assert lowered.graph.initializers["scale"].dtype == FLOAT
    assert [v.dtype for v in (*lowered.inputs, *lowered.outputs)] == [FLOAT, FLOAT]
    assert [v.name for v in lowered.outputs] == ["y"]
    np.testing.assert_allclose(_run(lowered.ir, x=X), _run(model.ir, x=X), atol=2e-3)
    assert model.graph.initializers["W"].dtype == FLOAT  # the original stays


def test_positions_are_computed_in_float32_until_a_weight_is_read():
    body = """[place] p = Cast<to = 1>(positions) [angle] a = Mul(p, rate) [cosine] c = Cos(a)
        [fc] h = MatMul(x, W) [turn] y = Mul(h, c)"""
    model = _model(
        body, "float[seq,8] x, int64[seq,1] positions", {"W": _weight(8, 8)}, "<float[1,8] rate = {1,1,1,1,1,1,1,1}>"
    )
    lowered = narrowing.lower(model, "float16")
    types = _types(lowered)
    assert (types["place"], types["angle"], types["cosine"]) == (FLOAT, FLOAT, FLOAT)
    assert (types["fc"], types["turn"]) == (HALF, HALF)
    far = np.array([[2049], [30001], [70001]])  # numbers that float16 does not have
    np.testing.assert_allclose(_run(lowered.ir, x=X, positions=far), _run(model.ir, x=X, positions=far), atol=3e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_mask_of_the_lowest_number_stays_finite_and_infinity_stays_infinite(dtype):
    body = """[mask] m = Where(seen, zero, lowest) [open] n = Where(seen, zero, nothing)
        [fc] h = MatMul(x, W) [a] a = Add(h, m) [b] b = Add(h, n) [y] y = Concat<axis = 0>(a, b)"""
    constants = "<float zero = {0.0}, float lowest = {-3.4028234663852886e38}, float nothing = {-inf}>"
    constants = constants.replace("{-inf}", "{0.0}")
    model = _model(body, "float[batch,8] x, bool[batch,8] seen", {"W": _weight(8, 8)}, constants)
    model.graph.initializers["nothing"].const_value = ir.tensor(np.float32(-np.inf), name="nothing")
    lowered = rounding.rounded(narrowing.lower(model, dtype).ir, dtype)
    seen = np.zeros((3, 8), bool)
    seen[0] = True
    y = _run(lowered, x=X, seen=seen)
    assert np.isfinite(y[:3]).all() and (y[1:3] < -6e4).all()
    assert np.isneginf(y[4:]).all() and np.isfinite(y[3]).all()


def test_a_constant_that_float16_does_not_hold_keeps_its_node_in_float32():
    body = "[fc] a = MatMul(x, W) [eps] b = Add(a, tiny) [big] c = Mul(b, large) [last] y = MatMul(c, V)"
    model = _model(
        body,
        "float[batch,8] x",
        {"W": _weight(8, 8), "V": np.full((8, 2), 1e6)},
        "<float tiny = {1e-12}, float large = {1e-6}>",
    )
    types = _types(narrowing.lower(model, "float16"))
    assert types["fc"] == HALF
    assert (types["eps"], types["big"], types["last"]) == (FLOAT, FLOAT, FLOAT)
    assert _types(narrowing.lower(model, "bfloat16"))["last"] == ir.DataType.BFLOAT16  # it has their range


def test_a_node_or_block_that_is_named_keeps_float32():
    body = "[mlp__up] a = MatMul(x, W) [mlp__down] b = MatMul(a, W) [head] y = MatMul(b, V)"
    model = _model(body, "float[batch,8] x", {"W": _weight(8, 8), "V": _weight(8, 2)})
    types = _types(narrowing.lower(model, "float16", ["mlp.up"]))
    assert (types["mlp.up"], types["mlp.down"], types["head"]) == (FLOAT, HALF, HALF)
    lowered = narrowing.lower(model, "float16", ["mlp"])
    assert _types(lowered)["mlp.down"] == FLOAT and lowered.graph.initializers["W"].dtype == FLOAT
    with pytest.raises(DlbridgeError, match=r"mpl.*\n.*did you mean 'mlp'"):
        narrowing.lower(model, "float16", ["mpl"])


def test_a_weight_that_both_kinds_of_nodes_read_is_there_in_both_types():
    model = _model("[one] a = MatMul(x, W) [two] y = MatMul(a, W)", "float[batch,8] x", {"W": _weight(8, 8)})
    lowered = narrowing.lower(model, "float16", ["one"])
    assert {n: v.dtype for n, v in lowered.graph.initializers.items()} == {"W": FLOAT, "W.float16": HALF}
    np.testing.assert_allclose(_run(lowered.ir, x=X), _run(model.ir, x=X), atol=2e-3)


def test_graphs_within_a_node_stay_in_float32_and_read_float32():
    body = """[fc] h = MatMul(x, W)
        [choice] y = If(flag) <then_branch = a () => (float[batch,8] t) { t = Mul(h, h) },
                              else_branch = b () => (float[batch,8] e) { e = Identity(h) }>"""
    model = _model(body, "float[batch,8] x, bool flag", {"W": _weight(8, 8)})
    lowered = narrowing.lower(model, "float16")
    assert _types(lowered)["fc"] == HALF and _types(lowered)["choice"] == FLOAT
    for flag in (True, False):
        flag = np.array(flag)
        np.testing.assert_allclose(_run(lowered.ir, x=X, flag=flag), _run(model.ir, x=X, flag=flag), atol=5e-3)


def test_rounding_in_float32_gives_what_kernels_of_float16_give():
    body = "[fc] a = MatMul(x, W) [act] b = Tanh(a) [head] y = MatMul(b, V)"
    model = _model(body, "float[batch,8] x", {"W": _weight(8, 8), "V": _weight(8, 2)})
    lowered = narrowing.lower(model, "float16")
    plain, rounded = _run(lowered.ir, x=X), _run(rounding.rounded(lowered.ir, "float16"), x=X)
    exact = _run(model.ir, x=X)
    assert 0 < np.abs(plain - exact).max() < 2e-3
    np.testing.assert_allclose(rounded, plain, atol=1e-3)
    assert np.array_equal(rounded, rounded.astype(np.float16).astype(np.float32))


def test_a_model_with_nothing_to_narrow_is_refused():
    model = _model("y = Add(x, x)", "float[batch,8] x", {})
    with pytest.raises(DlbridgeError, match="nothing in it can be narrowed to float16"):
        narrowing.lower(model, "float16")
    with pytest.raises(DlbridgeError, match="no narrow precision 'float8'"):
        narrowing.lower(model, "float8")
