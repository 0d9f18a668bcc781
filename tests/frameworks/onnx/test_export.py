"""ONNX by torch.onnx and by tf2onnx: the same numbers and the same names as the model's own."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError
from dlbridge.model import Model
from dlbridge.ops import traits

ONNX = frameworks.get("onnx")
RNG = np.random.default_rng(0)


def _model(signature: str, body: str, **weights: np.ndarray) -> Model:
    text = f'<ir_version: 10, opset_import: ["": 28, "dlbridge": 1]> net {signature} {{ {body} }}'
    model = ir.from_onnx_text(text)
    for value in list(model.graph.inputs):
        if value.name in weights:
            value.const_value = ir.tensor(weights[value.name], name=value.name)
            model.graph.inputs.remove(value)
            model.graph.register_initializer(value)
            traits.set_kind(value, "parameter")
    for node in model.graph:
        node.name = node.name or node.outputs[0].name
    return Model(model)


def _mlp() -> Model:
    return _model(
        "(float[batch, step, 5] x, float[8, 5] w, float[8] b) => (logits)",
        "h = dlbridge.Linear(x, w, b) a = Gelu(h) logits = Softmax(a)",
        w=RNG.normal(size=(8, 5)).astype("float32"),
        b=RNG.normal(size=8).astype("float32"),
    )


def _two() -> Model:
    return _model(
        "(float[batch, 3, 6, 6] image, float[batch, 2] extra, float[4, 3, 3, 3] w, float[6, 4] v) => (score, pooled)",
        """c = Conv<pads = [1, 1, 1, 1]>(image, w) r = Relu(c) p = GlobalAveragePool(r) pooled = Flatten(p)
        j = Concat<axis = 1>(extra, pooled) score = MatMul(j, v)""",
        w=RNG.normal(size=(4, 3, 3, 3)).astype("float32"),
        v=RNG.normal(size=(6, 4)).astype("float32"),
    )


def _inputs(model: Model, batch: int) -> dict[str, np.ndarray]:
    sizes = {"batch": batch, "step": 4}
    shapes = {v.name: [s if isinstance(s, int) else sizes[str(s)] for s in v.shape] for v in model.inputs}
    return {n: RNG.normal(size=s).astype("float32") for n, s in shapes.items()}


def _check(live, model: Model, framework: str, path) -> None:
    frameworks.get(framework).export(live, model, path, opset=18)
    proto = onnx.load(path)
    assert _signature(proto) == [
        *((v.name, [str(s) for s in v.shape]) for v in model.inputs),
        *((v.name, [str(s) for s in v.shape]) for v in ONNX.write(model).ir.graph.outputs),
    ]
    direct, exported = ONNX.load(ONNX.write(model)), ONNX.load(path)
    for batch in (1, 3):
        arrays = _inputs(model, batch)
        expected, found = ONNX.run(direct, arrays), ONNX.run(exported, arrays)
        assert list(found) == list(expected)
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [_mlp, _two])
def test_by_torch(tmp_path, make):
    model = make()
    torch = frameworks.get("pytorch")
    _check(torch.load(torch.write(model)), model, "pytorch", tmp_path / "m.onnx")


def test_by_tf2onnx_exact_gelu(tmp_path):
    import keras

    model = _mlp()
    x = keras.Input((None, 5))
    live = keras.Model(x, keras.activations.softmax(keras.layers.Dense(8, activation="gelu")(x)))
    live.layers[1].set_weights([model.weights["w"].T, model.weights["b"]])
    _check(live, model, "keras", tmp_path / "m.onnx")


def test_by_tf2onnx_large_weights_are_no_constants_of_its_graph(tmp_path, monkeypatch):
    """It copies constants again and again, and TensorFlow's graphs hold 2 GB of them."""
    import tf2onnx

    seen, convert = [], tf2onnx.convert.from_function

    def watched(function, specs, **options):
        seen.append(function.get_concrete_function().graph.captures)
        return convert(function, specs, **options)

    monkeypatch.setattr(tf2onnx.convert, "from_function", watched)
    model = _model(
        "(float[batch, 3, 8, 8] x, float[32, 3, 3, 3] k, float[1152, 16] v, float[16] b) => (y, z)",
        "c = Conv(x, k) f = Flatten(c) y = MatMul(f, v) e = Relu(y) z = Add(e, b)",
        k=RNG.normal(size=(32, 3, 3, 3)).astype("float32"),
        v=RNG.normal(size=(1152, 16)).astype("float32"),
        b=np.ones(16, np.float32),
    )
    keras = frameworks.get("keras")
    live = keras.load(keras.write(model))
    _check(live, model, "keras", tmp_path / "m.onnx")
    assert max(weight.size for weight in live.get_weights()) == 1152 * 16
    assert len(seen[0]) == len(live.weights) - 1


def test_by_tf2onnx_what_it_leaves_of_tensorflow(tmp_path):
    """Keras compiles a convolution of groups by XLA, which tf2onnx writes as a call of that."""
    keras = pytest.importorskip("keras")
    live = keras.Sequential([keras.Input((6, 6, 4)), keras.layers.Conv2D(8, 3, groups=2)])
    model = frameworks.get("keras").read(live)
    from dlbridge.frameworks.keras.onnx_export import export

    with pytest.raises(DlbridgeError, match="tf2onnx cannot export it: it has no word for TensorFlow's"):
        export(live, model, tmp_path / "grouped.onnx", opset=18)
    assert not list(tmp_path.iterdir())


def test_by_tf2onnx_several_inputs_and_outputs(tmp_path):
    import keras
    from keras import layers

    model = _two()
    image, extra = keras.Input((3, 6, 6)), keras.Input((2,))
    conv = layers.Conv2D(4, 3, padding="same", activation="relu", use_bias=False)
    pooled = layers.GlobalAveragePooling2D()(conv(layers.Permute((2, 3, 1))(image)))
    dense = layers.Dense(4, use_bias=False)
    live = keras.Model([image, extra], [dense(layers.Concatenate()([extra, pooled])), pooled])
    conv.set_weights([model.weights["w"].transpose(2, 3, 1, 0)])
    dense.set_weights([model.weights["v"]])
    _check(live, model, "keras", tmp_path / "m.onnx")


def test_an_input_that_is_not_read_and_an_output_that_is_an_input(tmp_path):
    import keras

    model = _model("(float[batch, 2] x, float[batch, 3] z) => (y, same)", "y = Neg(x) same = Identity(x)")
    x, z = keras.Input((2,)), keras.Input((3,))
    _check(keras.Model([x, z], [keras.ops.negative(x), x]), model, "keras", tmp_path / "k.onnx")
    torch = frameworks.get("pytorch")
    _check(torch.load(torch.write(model)), model, "pytorch", tmp_path / "t.onnx")


def _signature(proto: onnx.ModelProto) -> list[tuple[str, list[str]]]:
    return [
        (v.name, [d.dim_param or str(d.dim_value) for d in v.type.tensor_type.shape.dim])
        for v in (*proto.graph.input, *proto.graph.output)
    ]


def test_torch_attention_whose_heads_are_joined(tmp_path):
    """The fused kernel's result can be joined without a copy, what torch.onnx makes of it cannot."""
    import torch

    import dlbridge

    class Attention(torch.nn.Module):
        def forward(self, x):
            heads = x.reshape(x.shape[0], 25, 2, 32).transpose(1, 2)
            heads = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
            return heads.transpose(1, 2).reshape(x.shape[0], 5, 5, 64)

    model = dlbridge.load(Attention(), inputs={"x": "float32[batch,25,64]"})
    _check(model.to_pytorch(), model, "pytorch", tmp_path / "model.onnx")
