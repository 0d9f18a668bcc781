"""frameworks.onnx.reader: files of any opset come in with the names and layers that a person would give them."""

import os

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.reference import ReferenceEvaluator

from dlbridge import frameworks
from dlbridge.errors import FileError, ShapeError, UnsupportedOpError
from dlbridge.ops import traits
from dlbridge.ops.strings import as_text, is_text

read = frameworks.get("onnx").read
RNG = np.random.default_rng(0)


def _proto(
    body: str, inputs: str, outputs: str = "float[batch, n] y", opset: int = 17, **weights: np.ndarray
) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["": {opset}]> net ({inputs}) => ({outputs}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items())
    return proto


def _rename(proto: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    """Node and value names that the text format cannot hold."""
    for node in proto.graph.node:
        node.name = names.get(node.name, node.name)
        for field in (node.input, node.output):
            field[:] = [names.get(n, n) for n in field]
    for tensor in proto.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    return proto


def _same(proto: onnx.ModelProto, **feeds: np.ndarray) -> None:
    model = read(proto)
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feeds)
    renamed = {value.name: array for value, array in zip(model.inputs, feeds.values(), strict=True)}
    got = onnxruntime.InferenceSession(ir.to_proto(model.ir).SerializeToString()).run(None, renamed)
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


def _mlp() -> onnx.ModelProto:
    """As the older torch.onnx writes it."""
    proto = _proto(
        "[n1] h = MatMul(x, w1) [n2] a = Add(b1, h) [n3] r = Relu(a) [n4] y = Gemm<transB = 1>(r, w2, b2)",
        "float[batch, 4] x",
        w1=RNG.normal(size=(4, 5)),
        b1=RNG.normal(size=5),
        w2=RNG.normal(size=(3, 5)),
        b2=RNG.normal(size=3),
    )
    return _rename(
        proto,
        {"n1": "/body/body.0/MatMul", "n2": "/body/body.0/Add", "n3": "/body/body.1/Relu", "n4": "/head/Gemm"}
        | {"w1": "onnx::MatMul_7", "b1": "body.0.bias", "w2": "head.weight", "b2": "head.bias"},
    )


def test_names_of_older_torch_exports():
    model = read(_mlp())
    assert [(n.name, n.op_type) for n in model.graph] == [("body.0", "Linear"), ("body.1", "Relu"), ("head", "Linear")]
    shapes = {v.name: tuple(v.shape) for v in model.parameters}
    assert shapes == {"body.0.weight": (5, 4), "body.0.bias": (5,), "head.weight": (3, 5), "head.bias": (3,)}
    assert str(model.outputs[0].shape) == "[batch,3]"
    _same(_mlp(), x=RNG.normal(size=(2, 4)).astype(np.float32))


def test_names_from_torch_metadata():
    proto = _proto(
        "[node_relu] h = Relu(x) [node_conv] y = Conv(h, w)",
        "float[batch, 3, 5, 5] x",
        "float[batch, 4, 5, 5] y",
        w=RNG.normal(size=(4, 3, 1, 1)),
    )
    _rename(proto, {"w": "layer1.0.conv1.weight"})
    for node, leaf in zip(proto.graph.node, ("activation.ReLU", "batchnorm.BatchNorm2d"), strict=True):
        name = leaf.rpartition(".")[2].lower()
        scopes = ["", "layer1", "layer1.0", f"layer1.0.{name}", "op"]
        classes = ["app.Net", "torch.nn.modules.container.Sequential", "app.Block", f"torch.nn.modules.{leaf}", "aten"]
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(scopes))
        node.metadata_props.add(key="pkg.torch.onnx.class_hierarchy", value=str(classes))
    model = read(proto)
    assert [n.name for n in model.graph] == ["layer1.0.relu", "layer1.0.conv1"]  # a weight's name tells more
    assert traits.blocks(model.graph) == {"": "Net", "layer1": "Sequential", "layer1.0": "Block"}


def test_names_of_tf2onnx():
    proto = _proto(
        "[n1] h = MatMul(x, w) [n2] a = Add(h, b) [n3] y = Softmax(a)",
        "float[unk__7, 4] x",
        w=RNG.normal(size=(4, 3)),
        b=np.zeros(3),
    )
    _rename(
        proto,
        {
            "n1": "functional/dense_1/Tensordot/MatMul",
            "n2": "functional/dense_1/Add__9",
            "n3": "functional/dense_1/Softmax",
        }
        | {"w": "functional/dense_1/Cast/ReadVariableOp:0", "b": "const_fold_opt__12"},
    )
    proto.producer_name = "tf2onnx"
    model = read(proto)
    assert [(n.name, n.op_type) for n in model.graph] == [("dense_1", "Linear"), ("dense_1_softmax", "Softmax")]
    assert [v.name for v in model.parameters] == ["dense_1.weight", "dense_1.bias"]
    assert str(model.inputs[0].shape) == "[batch,4]"


def test_weights_shared_by_two_layers_stay_shared():
    proto = _proto("[a] h = MatMul(x, w) [b] y = MatMul(h, w)", "float[batch, 4] x", w=RNG.normal(size=(4, 4)))
    model = read(proto)
    assert [n.op_type for n in model.graph] == ["Linear", "Linear"]
    assert len(model.graph.initializers) == 1
    _same(proto, x=RNG.normal(size=(2, 4)).astype(np.float32))


def test_equal_vectors_that_torch_merged_are_parted():
    proto = _proto(
        "[n0] s = Identity(b) [n1] h = Add(x, b) [n2] y = InstanceNormalization(h, b, s)",
        "float[batch, 3, 4] x",
        "float[batch, 3, 4] y",
        b=np.ones(3),
    )
    proto.graph.node[1].input[1] = "x"
    _rename(proto, {"b": "norm.weight", "s": "norm.bias"})
    assert {v.name for v in read(proto).parameters} == {"norm.weight", "norm.bias"}


def test_kinds_of_initializers():
    proto = _proto(
        "[bn] h = BatchNormalization(x, g, b, m, v) [shift] y = Add(h, c)",
        "float[batch, 3, 4] x",
        "float[batch, 3, 4] y",
        **{k: np.ones(3) for k in "gbmv"},
        c=np.ones((3, 1)),
    )
    _rename(proto, {"g": "bn.weight", "b": "bn.bias", "m": "bn.running_mean", "v": "bn.running_var", "c": "offset_1"})
    model = read(proto)
    assert {v.name: traits.kind(v) for v in model.graph.initializers.values()} == {
        "bn.weight": "parameter",
        "bn.bias": "parameter",
        "bn.running_mean": "buffer",
        "bn.running_var": "buffer",
        "offset_1": "constant",
    }


def test_initializers_that_are_inputs_too_are_weights():
    proto = _mlp()
    proto.graph.input.append(helper.make_tensor_value_info("head.weight", TensorProto.FLOAT, [3, 5]))
    assert [v.name for v in read(proto).inputs] == ["x"]


def test_functions_are_inlined():
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "own": 1]> net (float[batch, 4] x) => (float[batch, 4] y) {
            [twice] y = own.Twice <times = 2.0>(x) }
        <domain: "own", opset_import: ["": 17]> Twice <times> (a) => (b) {
            c = Constant <value_float: float = @times>() b = Mul(a, c) }"""
    )
    model = read(proto)
    assert [n.op_type for n in model.graph] == ["Mul"] and not model.ir.functions
    _same(proto, x=np.ones((1, 4), np.float32))


def test_all_that_cannot_be_read_is_listed_at_once():
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1, "ai.onnx.ml": 3]>
        net (float[batch, 4] x) => (float[batch, 4] y) {
            [first] a = com.microsoft.Inverse(x) [second] b = ai.onnx.ml.DictVectorizer(a)
            [third] c = StringNormalizer(b, b) [fourth] d = Swish(b) [fifth] e = Relu <is_test = 1> (b)
            [sixth] y = Concat(b, e) }"""
    )
    with pytest.raises(UnsupportedOpError) as caught:
        read(proto)
    for part in (
        "Inverse",
        "first",
        "DictVectorizer",
        "second",
        "StringNormalizer",
        "third",
        "Swish",
        "fourth",
        "is_test",
        "sixth",
    ):
        assert part in str(caught.value)


def test_a_graph_that_does_not_fit_names_the_node():
    with pytest.raises(ShapeError, match=r"bad.*FLOAT\[batch,4\]"):
        read(_proto("[bad] y = MatMul(x, z)", "float[batch, 4] x, float[5, 4] z"))


@pytest.mark.filterwarnings("ignore")
def test_the_node_tests_of_the_standard_keep_their_numbers():
    """Every node test of onnx is read, with all passes, and the reference evaluator gives the same numbers."""
    random = ("bernoulli", "training_dropout")  # numbers of chance; dropout is read in inference form
    done = 0
    for case in collect_testcases(None):
        if case.model is None or any(word in case.name for word in random):
            continue
        inputs, _ = case.data_sets[0]
        names = [value.name for value in case.model.graph.input]
        try:
            model = read(case.model)
        except UnsupportedOpError:
            continue  # sequences, optionals, ai.onnx.ml
        try:
            expected = ReferenceEvaluator(case.model).run(None, dict(zip(names, inputs, strict=True)))
        except (TypeError, ValueError, NotImplementedError, RuntimeError, AttributeError):
            continue  # the evaluator cannot run it
        done += 1
        feeds = dict(zip([value.name for value in model.inputs], inputs, strict=True))
        got = ReferenceEvaluator(ir.to_proto(model.ir)).run(None, feeds)
        for a, b in zip(expected, got, strict=True):
            a, b = (np.asarray(v) for v in (a, b))
            if is_text(a):
                assert as_text(a).tolist() == as_text(b).tolist(), case.name
                continue
            assert (a.shape, a.dtype) == (b.shape, b.dtype), case.name
            a, b = (v if v.dtype.kind in "biufc" else v.astype(np.float32) for v in (a, b))
            np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5, err_msg=case.name)
    assert done > 1500


# --- files --------------------------------------------------------------------------------------------------------


def test_external_data_is_mapped_not_read(tmp_path):
    path, proto = tmp_path / "net.onnx", _mlp()
    expected = numpy_helper.to_array(proto.graph.initializer[2]).copy()
    onnx.save(proto, path, save_as_external_data=True, location="net.bin", size_threshold=0)
    model = read(path)
    assert isinstance(model.graph.initializers["head.weight"].const_value, ir.ExternalTensor)
    assert model.weights["head.weight"].base is not None  # a view of the mapped file
    np.testing.assert_array_equal(model.weights["head.weight"], expected)


def _external(location: str, **more: str) -> onnx.ModelProto:
    proto = _mlp()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return proto


@pytest.mark.parametrize(
    ("location", "more", "message"),
    [
        ("../secret.bin", {}, "outside"),
        ("/etc/passwd", {}, "outside"),
        ("link.bin", {}, "outside"),
        ("", {}, "outside"),
        ("absent.bin", {}, "missing"),
        ("short.bin", {}, "truncated"),
        ("right.bin", {"offset": "8"}, "truncated"),
        ("right.bin", {"offset": "-8"}, "no proper place"),
        ("right.bin", {"length": "4"}, "truncated"),
    ],
)
def test_hostile_external_data(tmp_path, location, more, message):
    (tmp_path / "secret.bin").write_bytes(bytes(80))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "short.bin").write_bytes(bytes(10))
    (folder / "right.bin").write_bytes(bytes(80))
    os.symlink(tmp_path / "secret.bin", folder / "link.bin")
    (folder / "net.onnx").write_bytes(_external(location, **more).SerializeToString())
    with pytest.raises(FileError, match=message):
        read(folder / "net.onnx")


def _cut_tensor() -> bytes:
    proto = _mlp()
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    return proto.SerializeToString()


def _unknown_value() -> bytes:
    proto = _mlp()
    proto.graph.node[3].input[0] = "nowhere"
    return proto.SerializeToString()


@pytest.mark.parametrize(
    "content",
    [b"", b"not a model at all", _mlp().SerializeToString()[:-40], _cut_tensor(), b"PK\x03\x04" + bytes(100)],
    ids=["empty", "text", "truncated", "cut tensor", "zip"],
)
def test_broken_files(tmp_path, content):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_value_that_nothing_makes(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(_unknown_value())
    with pytest.raises((FileError, ShapeError), match="nowhere"):
        read(path)


def test_no_such_file(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read(tmp_path / "absent.onnx")


@pytest.mark.parametrize("op", ["Add", "Sub"])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_batch_norm_behind_a_convolution_is_in_it_where_the_exporter_folds_weights(op, has_bias):
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 3, 3, 3)), "b": rng.normal(size=4)}
    weights |= {"f": rng.normal(size=(1, 4, 1, 1)), "s": rng.normal(size=(4, 1, 1))}
    text = f"c = Conv(x, w{', b' if has_bias else ''}) m = Mul(c, f) y = {op}(m, s)"
    x = rng.normal(size=(2, 3, 5, 5)).astype(np.float32)
    found = {}
    for producer in ("tf2onnx", "pytorch"):
        proto = _proto(text, "float[batch, 3, 5, 5] x", "float[batch, 4, 3, 3] y", **weights)
        proto.producer_name = producer
        model = read(proto)
        found[producer] = [node.op_type for node in model.graph]
        _same(proto, x=x)
    assert found == {"tf2onnx": ["Conv"], "pytorch": ["Conv", "Mul", op]}


def test_layers_of_equal_constants_are_no_shared_layer():
    """torch.onnx gives normalisations without weights the same ones and zeros, in whatever block they stand."""
    pytest.importorskip("keras")
    text = "h = InstanceNormalization(x, one, zero) r = Relu(h) k = InstanceNormalization(r, one, zero) y = Tanh(k)"
    proto = _proto(text, "float[batch, 3, 4, 4] x", "float[batch, 3, 4, 4] y", one=np.ones(3), zero=np.zeros(3))
    for node, name in zip(proto.graph.node, ("a.norm", "a.relu", "b.norm", "b.tanh"), strict=True):
        node.name = name
    x = RNG.normal(size=(2, 3, 4, 4)).astype(np.float32)
    (wanted,) = ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_allclose(np.asarray(read(proto).to_keras()(x)), wanted, rtol=1e-5, atol=1e-5)
