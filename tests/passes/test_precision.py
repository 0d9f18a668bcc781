"""passes.precision: a model in another float type."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from dlbridge.errors import DlbridgeError
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes import precision, shapes

TEXT = """<ir_version: 10, opset_import: ["": 24, "dlbridge": 1]>
g (float[batch, 2, 4, 4] x, float[5, 8] W) => (y)
  <float[4] scales = {1.0, 1.0, 0.5, 0.5}, float[2] gamma = {1.0, 2.0}, float[2] beta = {0.1, 0.3}>
{
    [resize] small = Resize<mode = "linear">(x, , scales)
    [norm] normed = GroupNormalization<num_groups = 1>(small, gamma, beta)
    [flat] flat = Flatten(normed)
    [fc] logits = dlbridge.Linear(flat, W)
    [half] half = Constant<value_float = 0.5>()
    [mul] scaled = Mul(logits, half)
    [cast] y = Cast<to = 1>(scaled)
}"""


def _model() -> Model:
    model = Model(ir.from_onnx_text(TEXT))
    weight = next(v for v in model.graph.inputs if v.name == "W")
    model.graph.inputs.remove(weight)
    weight.const_value = ir.tensor(np.linspace(-1, 1, 40, dtype=np.float32).reshape(5, 8), name="W")
    model.graph.register_initializer(weight)
    traits.set_kind(weight, "parameter")
    shapes.infer(model.ir)
    return model


def _run(model: Model, x: np.ndarray) -> np.ndarray:
    return ReferenceEvaluator(ir.to_proto(model.ir)).run(None, {"x": x})[0]


def test_float64_computes_the_same_with_float64_rounding():
    model = _model()
    wide = precision.convert(model, "float64")
    shapes.infer(wide.ir)
    x = np.random.default_rng(0).normal(size=(3, 2, 4, 4))
    y32, y64 = _run(model, x.astype(np.float32)), _run(wide, x)
    assert (y32.dtype, y64.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(y32, y64, atol=1e-5)

    small = x.reshape(3, 2, 2, 2, 2, 2).mean((3, 5))
    axes = (1, 2, 3)
    normed = (small - small.mean(axes, keepdims=True)) / np.sqrt(small.var(axes, keepdims=True) + 1e-5)
    gamma, beta = (np.float32(v).astype(np.float64).reshape(2, 1, 1) for v in ([1, 2], [0.1, 0.3]))
    weight = np.linspace(-1, 1, 40, dtype=np.float32).reshape(5, 8)
    expected = (normed * gamma + beta).reshape(3, 8) @ weight.T.astype(np.float64) * 0.5
    np.testing.assert_allclose(y64, expected, rtol=1e-6)  # epsilon is a float32 attribute


def test_names_kinds_and_the_original_stay():
    model = _model()
    half = precision.convert(model, "float16")
    assert {v.dtype for v in model.graph.initializers.values()} == {ir.DataType.FLOAT}
    assert half.graph.initializers["W"].const_value.numpy().dtype == np.float16
    assert half.graph.initializers["scales"].dtype == ir.DataType.FLOAT  # Resize has its scales in float32 alone
    assert traits.kind(half.graph.initializers["W"]) == "parameter"
    assert [n.name for n in half.graph] == [n.name for n in model.graph]
    shapes.infer(half.ir)
    assert half.outputs[0].dtype == ir.DataType.FLOAT16


def test_a_weight_is_read_only_when_asked_for():
    model = _model()
    reads = []

    def read() -> ir.Tensor:
        reads.append(1)
        return ir.tensor(np.zeros((5, 8), np.float32))

    weight = model.graph.initializers["W"]
    weight.const_value = ir.LazyTensor(read, dtype=ir.DataType.FLOAT, shape=ir.Shape([5, 8]), name="W")
    wide = precision.convert(model, "float64")
    assert not reads
    assert wide.weights["W"].dtype == np.float64 and reads


def test_unknown_precision():
    with pytest.raises(DlbridgeError, match="float8"):
        precision.convert(_model(), "float8")
