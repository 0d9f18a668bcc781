"""frameworks.onnx: what is written, its names and files, and that onnxruntime agrees with the reference evaluator."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import InlinePass

from dlbridge import frameworks
from dlbridge.errors import FileError, SignatureError
from dlbridge.frameworks.onnx import serialize
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.evaluator import Evaluator

ONNX = frameworks.get("onnx")
RNG = np.random.default_rng(0)


def _weight(name: str, *shape: int) -> ir.Value:
    tensor = ir.tensor(RNG.normal(size=shape).astype("float32"), name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    traits.set_kind(value, "parameter")
    return value


def _input(name: str, *shape: int | str, dtype=ir.DataType.FLOAT) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def _node(name: str, op: str, *inputs: ir.Value | None, domain: str = "", **attributes) -> ir.Node:
    node = ir.node(op, inputs, attributes, domain=domain, name=name)
    node.outputs[0].name = name
    return node


def _mlp(rank: int = 2) -> Model:
    x = _input("x", *("batch", "step")[: rank - 1], 5)
    weights = [_weight("fc1.weight", 8, 5), _weight("fc1.bias", 8), _weight("head.fc2.weight", 3, 8)]
    fc1 = _node("fc1", "Linear", x, *weights[:2], domain="dlbridge")
    act = _node("act", "Gelu", fc1.outputs[0])
    fc2 = _node("head.fc2", "Linear", act.outputs[0], weights[2], domain="dlbridge")
    fc2.outputs[0].name = "logits"
    return Model.build("mlp", [x], fc2.outputs, [fc1, act, fc2], weights, blocks={"head": "Head"})


def _reference(model: Model, **inputs: np.ndarray) -> list[np.ndarray]:
    """The reference evaluator on the model's own functions."""
    InlinePass()(copy := model.clone().ir)  # it does not tell the overloads of a function apart
    return ReferenceEvaluator(ir.to_proto(copy)).run(None, inputs)


def test_linear_of_rank_2_is_gemm_with_the_weight_as_it_is():
    model = _mlp()
    source = ONNX.write(model)
    assert [n.op_type for n in source.ir.graph] == ["Gemm", "Gelu", "Gemm"]
    assert [n.name for n in source.ir.graph] == ["fc1", "act", "head.fc2"]
    assert set(source.ir.graph.initializers) == {"fc1.weight", "fc1.bias", "head.fc2.weight"}
    assert source.inputs == ["x"] and source.outputs == ["logits"]
    assert [str(v.shape) for v in (*source.ir.graph.inputs, *source.ir.graph.outputs)] == ["[batch,5]", "[batch,3]"]
    x = RNG.normal(size=(4, 5)).astype("float32")
    np.testing.assert_allclose(ONNX.run(ONNX.load(source), {"x": x})["logits"], _reference(model, x=x)[0], rtol=1e-5)


def test_linear_of_another_rank_is_matmul_with_the_weight_transposed_once():
    model = _mlp(rank=3)
    source = ONNX.write(model, opset=17)
    assert [n.op_type for n in source.ir.graph][:2] == ["MatMul", "Add"]
    assert set(source.ir.graph.initializers) >= {"fc1.weight.T", "fc1.bias", "head.fc2.weight.T"}
    assert "fc1.weight" not in source.ir.graph.initializers
    x = RNG.normal(size=(2, 4, 5)).astype("float32")
    np.testing.assert_allclose(ONNX.run(ONNX.load(source), {"x": x})["logits"], _reference(model, x=x)[0], rtol=1e-5)


def test_a_weight_that_an_embedding_shares_is_in_the_file_once():
    ids = _input("ids", "batch", "step", dtype=ir.DataType.INT64)
    table = _weight("wte.weight", 11, 4)
    wte = _node("wte", "Embedding", ids, table, domain="dlbridge")
    head = _node("head", "Linear", wte.outputs[0], table, domain="dlbridge")
    model = Model.build("tied", [ids], head.outputs, [wte, head], [table])
    source = ONNX.write(model)
    assert list(source.ir.graph.initializers) == ["wte.weight"]
    given = RNG.integers(0, 11, size=(2, 3))
    found = ONNX.run(ONNX.load(source), {"ids": given})["head"]
    np.testing.assert_allclose(found, _reference(model, ids=given)[0], rtol=1e-5, atol=1e-6)


def test_the_model_is_left_as_it_is_and_traits_stay_out_of_the_file(tmp_path):
    model = _mlp()
    before = ir.to_proto(model.ir).SerializeToString()
    plain, told = (tmp_path / "plain.onnx", tmp_path / "told.onnx")
    ONNX.write(model).save(plain)
    ONNX.write(model, metadata=True).save(told)
    assert set(_metadata(onnx.load(plain))) <= {
        "dlbridge.blocks"
    }  # the classes of blocks, as torch.onnx tells them too
    assert {"dlbridge.kind", "dlbridge.blocks"} <= set(_metadata(onnx.load(told)))
    assert ir.to_proto(model.ir).SerializeToString() == before


def _metadata(proto: onnx.ModelProto) -> list[str]:
    return [p.key for holder in (proto.graph, *proto.graph.value_info) for p in holder.metadata_props]


def test_a_file_is_what_onnx_reads(tmp_path):
    source = ONNX.write(_mlp())
    path = source.save(tmp_path / "m.onnx")
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    found = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert found.keys() == dict(source.arrays()).keys()
    assert all(np.array_equal(found[n], a) for n, a in source.arrays())
    assert proto.opset_import[0].version == 24 and proto.producer_name == "dlbridge"
    with pytest.raises(FileError, match="already exists"):
        source.save(path)
    source.save(path, force=True)


def test_what_is_too_large_for_one_file_has_its_weights_beside_it(tmp_path):
    weights = [_weight("big.weight", 64, 32), _weight("big.bias", 64)]
    x = _input("x", "batch", 32)
    node = _node("big", "Linear", x, *weights, domain="dlbridge")
    model = Model.build("big", [x], node.outputs, [node], weights)
    source = ONNX.write(model)
    path = source.save(tmp_path / "m.onnx", largest_file=4096)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert path.stat().st_size < 2048
    onnx.checker.check_model(path, full_check=True)
    given = RNG.normal(size=(2, 32)).astype("float32")
    live = ONNX.load(path)
    np.testing.assert_allclose(ONNX.run(live, {"x": given})["big"], _reference(model, x=given)[0], rtol=1e-4, atol=1e-5)


def test_beyond_two_gigabytes_no_weight_is_read_before_it_is_written():
    read = []
    weight = _weight("w.weight", 2, 2)
    huge = ir.LazyTensor(
        lambda: read.append(1), dtype=ir.DataType.FLOAT, shape=ir.Shape([30000, 20000]), name="w.weight"
    )
    weight.const_value, weight.shape = huge, huge.shape
    x = _input("x", "batch", 20000)
    node = _node("w", "Linear", x, weight, domain="dlbridge")
    source = ONNX.write(Model.build("huge", [x], node.outputs, [node], [weight]))
    assert serialize.weights_size(source.ir) > serialize.LARGEST_FILE and not read


def test_bfloat16_goes_in_and_out():
    import ml_dtypes

    x = _input("x", "n", dtype=ir.DataType.BFLOAT16)
    node = _node("y", "Identity", x)
    live = ONNX.load(ONNX.write(Model.build("narrow", [x], node.outputs, [node])))
    given = np.arange(4).astype(ml_dtypes.bfloat16)
    found = ONNX.run(live, {"x": given})["y"]
    assert found.dtype == given.dtype and np.array_equal(found, given)


def test_a_missing_input_is_named():
    with pytest.raises(SignatureError, match="input\\(s\\) x"):
        ONNX.run(ONNX.load(ONNX.write(_mlp())), {})


def test_to_onnx_writes_the_file(tmp_path):
    written = _mlp().to_onnx(tmp_path / "m.onnx", opset=18)
    assert isinstance(written, ir.Model) and written.graph.opset_imports[""] == 18
    assert ONNX.accepts(written) and ONNX.accepts(onnx.load(tmp_path / "m.onnx")) and not ONNX.accepts("m.onnx")


@pytest.mark.parametrize("power", [1, 2, 3])
def test_a_global_pool_of_powers_runs_at_any_opset(power):
    """onnxruntime has no kernel for it from 22 on."""
    text = f"net (float[n, 2, h, w] x) => (float[n, 2, 1, 1] y) {{ y = GlobalLpPool <p = {power}> (x) }}"
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 5)).astype(np.float32)
    (right,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    for opset in (13, 21, 22, 24):
        made = ONNX.load(ONNX.write(ONNX.read(proto), opset=opset))
        np.testing.assert_allclose(ONNX.run(made, {"x": x})["y"], right, 1e-5)


@pytest.mark.parametrize("sizes", ["sizes", "scales"])
def test_a_cubic_resize_with_the_channels_last_runs(sizes):
    """onnxruntime makes the inner axes no smaller by it."""
    given = {"sizes": "s = Constant <value_ints = [5, 15]> ()", "scales": "s = Constant <value_floats = [0.5, 1.5]> ()"}
    inputs = {"sizes": "x, , , s", "scales": "x, , s"}
    text = f"""<ir_version: 10, opset_import: ["": 21]> net (float[n, 10, 10, 3] x) => (float[n, 5, 15, 3] y) {{
        {given[sizes]} y = Resize <mode = "cubic", axes = [1, 2]> ({inputs[sizes]}) }}"""
    model = ONNX.read(onnx.parser.parse_model(text))
    x = np.random.default_rng(0).standard_normal((2, 10, 10, 3)).astype(np.float32)
    right = Evaluator(model.ir)({"x": x})["y"]
    for opset in (18, None):
        made = ONNX.run(ONNX.load(ONNX.write(model, opset=opset)), {"x": x})["y"]
        np.testing.assert_allclose(made, right, rtol=1e-4, atol=1e-5)
