"""passes.lift: activations that people write out become layers; NaN, infinities and zeros are computed as before."""

import re

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from dlbridge.passes import shapes
from dlbridge.passes.lift import lift

CONSTANTS = {"zero": 0, "one": 1, "minus": -1, "slope": 0.25, "low": -0.5, "six": 6, "bent": 1.00005, "big": 1e30}
#: With zeros of both signs, NaN, infinities, and numbers whose exponential overflows.
X = np.array([[-2.0, -0.25, -0.0], [0.0, 0.5, 7.0], [np.nan, np.inf, -np.inf], [-200.0, 200.0, 1e-3]])
#: Body -> the ops after.
BODIES = {
    "n = Neg(x) e = Exp(n) p = Add(e, one) y = Div(one, p)": "Sigmoid",
    "n = Mul(x, minus) e = Exp(n) p = Add(one, e) y = Reciprocal(p)": "Sigmoid",
    "n = Neg(x) e = Exp(n) p = Add(e, one) s = Div(one, p) y = Mul(x, s)": "Swish",
    "n = Neg(x) e = Exp(n) p = Add(e, one) y = Div(x, p)": "Swish",
    "m = Mul(x, slope) n = Neg(m) e = Exp(n) p = Add(e, one) y = Div(x, p)": "Swish",
    "y = Max(x, zero)": "Relu",
    "y = Max(zero, x)": "Relu",
    "m = Max(x, low) y = Min(m, six)": "Clip",
    "m = Min(six, x) y = Max(low, m)": "Clip",
    "m = Max(x, zero) y = Min(m, six)": "Clip",
    "m = Relu(x) y = Min(m, six)": "Clip",
    "c = Greater(x, zero) s = Mul(x, slope) y = Where(c, x, s)": "LeakyRelu",
    "c = GreaterOrEqual(x, zero) s = Mul(slope, x) y = Where(c, x, s)": "LeakyRelu",
    "c = Less(x, zero) s = Mul(x, slope) y = Where(c, s, x)": "LeakyRelu",
    "c = GreaterOrEqual(zero, x) s = Mul(x, slope) y = Where(c, s, x)": "LeakyRelu",
    "c = Greater(x, zero) e = Exp(x) m = Sub(e, one) s = Mul(m, slope) y = Where(c, x, s)": "Elu",
    "c = LessOrEqual(x, zero) e = Exp(x) m = Sub(e, one) y = Where(c, m, x)": "Elu",
}
#: Bodies that compute something else.
OTHERS = [
    "e = Exp(x) p = Add(e, one) y = Div(one, p)",  # the sigmoid of -x
    "n = Neg(x) e = Exp(n) p = Add(e, one) y = Div(slope, p)",
    "n = Neg(x) e = Exp(n) p = Add(e, bent) y = Div(one, p)",
    "e = Exp(x) p = Add(e, one) y = Div(e, p)",  # NaN where x is large
    "n = Neg(x) e = Exp(n) p = Add(e, one) t = Tanh(x) y = Div(t, p)",
    "y = Max(x, low)",
    "y = Max(x, zero, low)",
    "y = Min(x, zero)",
    "m = Max(x, six) y = Min(m, low)",  # the bounds are not in order
    "m = Max(x, low) n = Min(m, six) y = Add(m, n)",
    "c = Greater(x, zero) y = Where(c, x, zero)",  # 0 where x is NaN
    "c = Greater(x, slope) y = Where(c, x, zero)",
    "c = Greater(x, one) s = Mul(x, slope) y = Where(c, x, s)",
    "c = Less(x, zero) s = Mul(x, slope) y = Where(c, x, s)",
    "c = Greater(x, zero) s = Mul(x, minus) y = Where(c, x, s)",
    "c = Greater(x, zero) t = Tanh(x) s = Mul(t, slope) y = Where(c, x, s)",
    "c = Greater(x, one) e = Exp(x) m = Sub(e, one) y = Where(c, x, m)",
    "c = Greater(x, zero) e = Exp(x) m = Sub(one, e) y = Where(c, x, m)",
    "c = Greater(x, zero) e = Exp(x) m = Sub(e, bent) y = Where(c, x, m)",
]


def _model(body: str, dtype: str = "float", constant: str = "", y: str = "n, 3") -> ir.Model:
    """A graph with this body; the constants have a shape, which is empty where they are numbers."""
    stated = {name: [number] if constant else number for name, number in CONSTANTS.items() if f"{name}" in body}
    if dtype.startswith("int"):
        stated = {name: np.asarray(number).astype(dtype).tolist() for name, number in stated.items()}
    text = f'<ir_version: 10, opset_import: ["": 28]> g ({dtype}[n, 3] x) => ({dtype}[{y}] y) {{ {body} }}'
    model = ir.from_onnx_text(text)
    values = {v.name: v for node in model.graph for v in node.inputs}
    for name, number in stated.items():
        array = np.asarray(number, model.graph.inputs[0].dtype.numpy()).reshape([1] * len(constant.split()))
        values[name].const_value = ir.tensor(array, name=name)
        model.graph.register_initializer(values[name])
    shapes.infer(model)
    return model


def _ops(model: ir.Model) -> str:
    return " ".join(node.op_type for node in model.graph)


def _run(model: ir.Model) -> np.ndarray:
    x = X.astype(model.graph.inputs[0].dtype.numpy())
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})[0]


@pytest.mark.parametrize("dtype", ["float", "double", "float16"])
@pytest.mark.parametrize("body", BODIES)
def test_what_is_written_out_becomes_a_layer(body, dtype):
    model = _model(body, dtype)
    before = _run(model)
    lift(model)
    shapes.infer(model)
    assert _ops(model) == BODIES[body]
    after, rounding = _run(model), 4 * float(np.finfo(before.dtype).eps)
    assert (after.dtype, after.shape) == (before.dtype, before.shape)
    np.testing.assert_allclose(after, before, rtol=max(rounding, 1e-7), atol=rounding)


@pytest.mark.parametrize("body", OTHERS)
def test_what_computes_something_else_stays(body):
    model = _model(body)
    before = _ops(model)
    lift(model)
    assert _ops(model) == before


@pytest.mark.parametrize(
    "body",
    [
        "y = Max(x, zero)",
        "m = Max(x, low) y = Min(m, six)",
        "c = Greater(x, zero) s = Mul(x, six) y = Where(c, x, s)",
    ],
)
def test_integers_stay(body):
    model = _model(body, "int32")
    before = _ops(model)
    lift(model)
    assert _ops(model) == before


@pytest.mark.parametrize("body", BODIES)
def test_constants_that_give_the_result_more_axes_stay(body):
    model = _model(body, constant="1 1 1 1", y="1, 1, n, 3")
    lift(model)
    assert not set(_ops(model).split()) & (set(BODIES.values()) - set(re.findall(r"= (\w+)\(", body)))
    assert _run(model).shape == (1, 1, *X.shape)


@pytest.mark.parametrize("body", BODIES)
def test_constants_of_one_element_are_numbers(body):
    model = _model(body, constant="1")
    lift(model)
    assert _ops(model) == BODIES[body]
    assert _run(model).shape == X.shape


def test_bounds_have_the_type_of_the_input_and_no_axes():
    model = _model("m = Max(x, low) y = Min(m, six)", "float16", constant="1 1")
    lift(model)
    (clip,) = model.graph
    assert [(v.dtype, list(v.shape)) for v in clip.inputs[1:]] == [(ir.DataType.FLOAT16, [])] * 2
