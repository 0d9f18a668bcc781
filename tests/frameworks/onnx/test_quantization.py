"""convert(dtype=..., quantize=...): less precision in an ONNX file, and what is lost in its certificate."""

import json

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from click.testing import CliRunner

import dlbridge
from dlbridge.cli import cli
from dlbridge.errors import DlbridgeError, VerificationError
from dlbridge.verification.certificate import read

SIZES = {"W": (64, 96), "V": (96, 10)}
BODY = "[up] a = MatMul(x, W) [act] b = Relu(a) [head] c = MatMul(b, V) [scores] y = Add(c, bias)"


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    """An ONNX file of two products, whose numbers are trained ones."""
    rng = np.random.default_rng(0)
    text = f"""<ir_version: 10, opset_import: ["": 20]> mlp (float[batch, 64] x, float[64,96] W, float[96,10] V,
        float[10] bias) => (float[batch, 10] y) {{ {BODY} }}"""
    proto = onnx.parser.parse_model(text)
    for name, shape in {**SIZES, "bias": (10,)}.items():
        array = (rng.normal(size=shape) / 8).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        proto.graph.input.remove(next(i for i in proto.graph.input if i.name == name))
    path = tmp_path_factory.mktemp("mlp") / "mlp.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, x=np.random.default_rng(1).normal(size=(32, 64)).astype(np.float32))
    return path


def _outputs(source, x):
    standard = dlbridge.frameworks.get("onnx")
    return standard.run(standard.load(source), {"x": x})["y"]


def bytes_saturate() -> bool:
    """Whether onnxruntime's sums of products of bytes saturate at 16 bits here, as on CPUs without VNNI."""
    text = (
        '<ir_version: 9, opset_import: ["": 18]> net (uint8[8,64] a, int8[64,8] b) => (y) { y = MatMulInteger(a, b) }'
    )
    session = onnxruntime.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    given = {"a": np.full((8, 64), 255, np.uint8), "b": np.full((64, 8), 127, np.int8)}
    return bool(session.run(None, given)[0][0, 0] < 64 * 255 * 127)


@pytest.mark.parametrize(
    ("how", "error", "share"),
    [
        ("int8", 0.05, 0.4),
        ("int8-static", 0.05, 0.4),
        ("int4", 0.25, 0.35),
        ("float16", 2e-3, 0.55),
        ("bfloat16", 2e-2, 0.55),
    ],
)
def test_what_is_lost_is_measured_and_is_in_the_certificate(how, error, share, mlp, data, tmp_path):
    error *= 2 if how.startswith("int8") and bytes_saturate() else 1
    kind = "dtype" if how.endswith("float16") else "quantize"
    options = {kind: how, **({"calibrate": data} if how == "int8-static" else {})}
    source = dlbridge.convert(mlp, "onnx", tmp_path / "entry", **options)
    certificate = read(tmp_path / "entry" / "certificate.json")
    loss = certificate.loss
    assert certificate.passed and loss.precision == how and "not proved" in loss.statement
    assert loss.bytes.after < share * loss.bytes.before
    assert {name: value.dtype for name, value in ((v.name, v) for v in source.ir.graph.inputs)} == {
        "x": ir.DataType.FLOAT
    }
    x = np.random.default_rng(2).normal(size=(50, 64)).astype(np.float32)
    if how != "bfloat16":  # which onnxruntime has no kernels of
        exact, less = _outputs(dlbridge.load(mlp).write("onnx"), x), _outputs(source, x)
        off = np.linalg.norm(less - exact) / np.linalg.norm(exact)
        assert 0 < off < error
        assert off < 3 * loss.outputs["y"].relative
    assert 0 < loss.outputs["y"].relative < error
    assert 0.5 < loss.outputs["y"].argmax <= 1
    assert loss.nodes and loss.nodes[0].op in ("MatMul", "Gemm", "Add")
    assert (loss.milliseconds is None) == (how == "bfloat16")


def test_int4_weights_are_those_of_onnxruntimes_own_tool(mlp):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    full = dlbridge.load(mlp).write("onnx", opset=20)
    products = onnx.load(mlp)
    tool = MatMulNBitsQuantizer(products, bits=4, block_size=32, is_symmetric=False)
    tool.process()
    theirs = {i.name: onnx.numpy_helper.to_array(i) for i in tool.model.model.graph.initializer}
    ours = dict(dlbridge.frameworks.get("onnx").quantize(full, "int4").arrays())
    for name in ("W", "V"):
        for word, suffix in (("int4", "_Q4"), ("scales", "_scales"), ("zeros", "_zero_points")):
            np.testing.assert_array_equal(ours[f"{name}.{word}"].ravel(), theirs[name + suffix].ravel())


@pytest.mark.parametrize("how", ["int8", "int4"])
def test_a_named_node_keeps_its_weight(how, mlp):
    source = dlbridge.convert(mlp, "onnx", quantize=how, keep_float32=["head"])
    floats = [value for value in source.ir.graph.initializers.values() if value.dtype == ir.DataType.FLOAT]
    assert sum(value.const_value.size == 960 for value in floats) == 1
    assert not any(value.const_value.size == 64 * 96 for value in floats)
    with pytest.raises(DlbridgeError, match="no node or block 'haed'"):
        dlbridge.convert(mlp, "onnx", quantize=how, keep_float32=["haed"])


def test_numbers_that_leave_the_range_are_an_error_that_names_the_node(tmp_path):
    text = """<ir_version: 10, opset_import: ["": 20]> g (float[batch, 4] x) => (float[batch, 2] y)
        <float[4,4] W = {300,0,0,0,0,300,0,0,0,0,300,0,0,0,0,300}, float[4,2] V = {900,900,900,900,900,900,900,900}>
        { [grows] a = MatMul(x, W) [bursts] y = MatMul(a, V) }"""
    model = dlbridge.load(onnx.parser.parse_model(text))
    with pytest.raises(VerificationError, match=r"not finite in float16: .* Gemm 'bursts'.*\n.*--keep-float32 bursts"):
        dlbridge.convert(model, "onnx", dtype="float16")
    kept = dlbridge.convert(model, "onnx", dtype="float16", keep_float32=["bursts"])
    assert kept.loss.outputs["y"].relative < 1e-3


@pytest.mark.parametrize(
    ("to", "options", "match"),
    [
        ("onnx", {"dtype": "float8"}, "no narrower type 'float8'"),
        ("onnx", {"quantize": "int2"}, "no quantization 'int2'"),
        ("onnx", {"quantize": "int8-static"}, "needs data to calibrate with"),
        ("onnx", {"quantize": "int8", "dtype": "float16"}, "int8 is made of float32"),
        ("onnx", {"keep_float32": ["head"]}, "'keep_float32' is for less precision"),
        ("pytorch", {"dtype": "float16"}, "has the model's own precision"),
    ],
)
def test_what_cannot_be_asked_for_is_an_error(to, options, match, mlp):
    with pytest.raises(DlbridgeError, match=match):
        dlbridge.convert(mlp, to, **options)


def test_a_model_without_weights_is_not_quantized():
    model = dlbridge.load(
        onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["": 20]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
        )
    )
    for how in ("int8", "int4"):
        with pytest.raises(DlbridgeError, match="nothing in it can be quantized"):
            dlbridge.convert(model, "onnx", quantize=how)


def test_the_command_line_says_what_is_lost(mlp, data, tmp_path):
    arguments = ["convert", str(mlp), "--to", "onnx", "-o", str(tmp_path / "m.onnx"), "--quantize", "int8-static"]
    arguments += ["--calibrate", str(data)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "int8-static: " in result.output and "relative error" in result.output and "not proved" in result.output
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(tmp_path / "m.onnx").graph.node)
    result = CliRunner().invoke(cli, [*arguments[:5], str(tmp_path / "h.onnx"), "--dtype", "float16", "--json"])
    assert json.loads(result.output)["loss"]["precision"] == "float16"


def test_the_logging_of_the_process_stays_as_it_is(mlp):
    import logging

    before = (list(logging.getLogger().handlers), logging.getLogger().level, logging.root.manager.disable)
    dlbridge.convert(mlp, "onnx", quantize="int4", check=False)
    dlbridge.convert(mlp, "onnx", quantize="int8", check=False)
    assert (list(logging.getLogger().handlers), logging.getLogger().level, logging.root.manager.disable) == before
