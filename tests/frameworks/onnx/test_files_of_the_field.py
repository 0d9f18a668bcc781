"""Files as other tools than exporters leave them: what onnxruntime runs is read, with the same numbers."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from dlbridge import frameworks

RNG = np.random.default_rng(0)


def _floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _proto(text: str, opset: int = 18, **weights: np.ndarray) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> net {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return proto


def _agree(proto: onnx.ModelProto, *names: str, **feeds: np.ndarray) -> None:
    """Every framework named gives what onnxruntime gives."""
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feeds)
    model = frameworks.get("onnx").read(proto)
    for name in names or ("pytorch", "keras", "nnx", "onnx"):
        framework = frameworks.get(name)
        found = framework.run(framework.load(framework.write(model)), feeds).values()
        for value, right in zip(found, expected, strict=True):
            assert (value.dtype, value.shape) == (right.dtype, right.shape), name
            np.testing.assert_allclose(value, right, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("threshold", [0, 40])
def test_weights_of_any_size_beside_a_file_are_in_the_one_that_is_written(tmp_path, threshold):
    text = """(float[n, 4] x, bool c) => (float[n, 4] y) {
        h = MatMul (x, w)
        y = If (c) <then_branch = t () => (float[n, 4] a) { a = Add (h, b) },
                    else_branch = e () => (float[n, 4] d) { d = Mul (h, inner) }> }"""
    proto = _proto(text, w=_floats(4, 4), b=_floats(4))
    proto.graph.node[1].attribute[1].g.initializer.append(numpy_helper.from_array(_floats(4), "inner"))
    feeds = {"x": _floats(2, 4), "c": np.array(False)}
    (right,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feeds)
    folder = tmp_path / "from"
    folder.mkdir()
    onnx.save(
        proto, folder / "m.onnx", save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=threshold
    )
    standard = frameworks.get("onnx")
    source = standard.write(standard.read(folder / "m.onnx"))
    source.save(tmp_path / "m.onnx")
    for path in folder.iterdir():
        path.unlink()
    (found,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, feeds)
    np.testing.assert_allclose(found, right, rtol=1e-5)


@pytest.mark.parametrize(
    "body",
    ["(float[n, 4] x) => (float[4] w, float[n, 4] y) { y = Relu (x) }",
     "(float[n, 4] x) => (float[4] w, float[n, 4] y) { y = Add (x, w) }",
     "(float[n, 4] x) => (float[4] v, float[n, 4] y) { y = Add (x, w)  v = Identity (w) }"],
)  # fmt: skip
def test_a_weight_may_be_an_output(body):
    _agree(_proto(body, w=_floats(4)), x=_floats(2, 4))
