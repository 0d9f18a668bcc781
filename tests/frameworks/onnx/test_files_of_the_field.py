"""Files as other tools than exporters leave them: what onnxruntime runs is read, with the same numbers."""

import re

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import FileError, ShapeError, UnsupportedOpError

RNG = np.random.default_rng(0)


def _floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _proto(text: str, opset: int = 18, **weights: np.ndarray) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> net {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return proto


def _agree(proto: onnx.ModelProto, *names: str, **feeds: np.ndarray) -> None:
    """Every framework named gives what onnxruntime gives, which by default rounds 4-bit products otherwise."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected = onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, feeds)
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


def test_quantised_numbers_of_four_bits_are_in_bytes_where_a_framework_has_no_type_for_them():
    body = """(float[n, 64] x) => (float[n, 3] y, float[n, 64] z) {
        d = DequantizeLinear <axis = 0, block_size = 32> (w, s)  y = MatMul (x, d)
        q = QuantizeLinear <output_dtype = 21> (x, step, zero)  t = Transpose <perm = [1, 0]> (q)
        u = Transpose <perm = [1, 0]> (t)  z = DequantizeLinear (u, step, zero) }"""
    proto = _proto(body, 21, s=np.abs(_floats(2, 3)), step=np.float32(0.2))
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.INT4, [64, 3], RNG.integers(-8, 8, 192)))
    proto.graph.initializer.append(helper.make_tensor("zero", TensorProto.UINT4, [], [7]))
    _agree(proto, "pytorch", "keras", "nnx", x=2 * _floats(2, 64))


def test_the_scale_of_zeros_is_one():
    body = "(float[n] x) => (uint8[n] q, float s, uint8 z) { q, s, z = DynamicQuantizeLinear (x) }"
    _agree(_proto(body), x=np.zeros(3, np.float32))


def test_a_threshold_makes_zero_of_nan():
    body = "(float[n] x) => (float[n] y) { y = ThresholdedRelu <alpha = 0.5> (x) }"
    _agree(_proto(body), x=np.array([np.nan, np.inf, -np.inf, 0.5, 0.6], np.float32))


def test_words_are_counted_in_texts_of_any_length():
    body = """(int32[n, c] x) => (float[n, 3] y) {
        y = TfIdfVectorizer <mode = "TF", min_gram_length = 1, max_gram_length = 2, max_skip_count = 1,
            ngram_counts = [0, 2], ngram_indexes = [0, 1, 2], pool_int64s = [2, 3, 5, 4]> (x) }"""
    for text in ([[1, 2, 3, 5, 7, 4], [5, 4, 5, 4, 2, 2]], [[2]]):
        _agree(_proto(body), x=np.array(text, np.int32))


def test_an_input_without_a_shape_is_refused_with_what_can_be_done_where_one_is_needed():
    proto = _proto("(float[n, 4] x) => (float[n, 4] y) { y = Relu (x) }")
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    model = frameworks.get("onnx").read(proto)
    for name in ("keras", "onnx"):
        with pytest.raises(ShapeError, match="has no shape") as error:
            model.write(name)
        assert "--input 'x[batch,...]'" in str(error.value)
    given = frameworks.get("onnx").read(proto, inputs={"x": "[batch, 4]"})
    assert given.to("onnx") is not None


def test_floats_of_eight_bits_that_jax_rounds_otherwise_are_refused():
    body = "(float[n] x) => (float[n] y) { q = QuantizeLinear <output_dtype = 18> (x, s)  y = DequantizeLinear (q, s) }"
    model = frameworks.get("onnx").read(_proto(body, 21, s=np.float32(0.3)))
    with pytest.raises(UnsupportedOpError, match="otherwise than the standard"):
        model.write("nnx")


@pytest.mark.parametrize("size", ["h, w", "7, 9"])
def test_pytorchs_files_scale_to_whole_sizes(size):
    """Of 7 * 1.5 = 10.5 elements the last is at 10, as PyTorch and onnxruntime have it."""
    body = f"""(float[n, 2, {size}] x) => (float[n, 2, a, b] y) {{
        s = Constant <value_floats = [1.0, 1.0, 1.5, 0.7]> ()
        y = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, , s) }}"""
    proto = _proto(body)
    proto.producer_name = "pytorch"
    _agree(proto, x=_floats(2, 2, 7, 9))
    assert "size=(" in frameworks.get("onnx").read(proto).write("pytorch").text


def test_a_file_is_written_at_an_opset_at_which_onnxruntime_runs_it():
    body = """(float[1, 2, 8, 8] x, float[k, 4] r) => (float[k, 2, 3, 3] y) {
        s = Shape <end = 1> (r)  b = ConstantOfShape <value = int64[1] {0}> (s)
        y = RoiAlign <output_height = 3, output_width = 3, sampling_ratio = 2> (x, r, b) }"""
    regions = np.array([[0, 0, 7, 7], [2, 3, 6, 5]], np.float32)
    _agree(_proto(body), "onnx", x=_floats(1, 2, 8, 8), r=regions)


def test_branches_may_state_shapes_that_are_none():
    body = """(float[n, c] x) => (float[m, k] y) {
        s = Shape <end = 1> (x)  one = Constant <value_ints = [1]> ()  e = Equal (s, one)  c = Squeeze (e)
        y = If (c) <then_branch = t () => (float[m, k] a) { a = Transpose (x) },
                    else_branch = e () => (float[m, k] b) { b = Neg (x) }> }"""
    for rows in (1, 2):
        _agree(_proto(body), x=_floats(rows, 3))


def test_a_domain_of_onnxruntime_need_not_be_imported():
    proto = _proto("(float[n, 4] x) => (float[n, 4] y) { y = com.microsoft.Gelu (x) }")
    _agree(proto, "pytorch", "onnx", x=_floats(2, 4))


def test_sparse_tensors_are_refused_with_what_can_be_done():
    proto = _proto("(float[n, 4] x) => (float[n, 4] y) { w = Constant ()  y = Add (x, w) }")
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.5, 2.5])
    places = helper.make_tensor("i", TensorProto.INT64, [2], [0, 3])
    sparse = helper.make_sparse_tensor(values, places, [4])
    proto.graph.node[0].attribute.append(helper.make_attribute("sparse_value", sparse))
    with pytest.raises(FileError, match="sparse") as error:
        frameworks.get("onnx").read(proto)
    assert "dense" in str(error.value)


@pytest.mark.parametrize("name", ["./x", "a/./b", "../../x", "a//b/", "..", "/", "a..b"])
def test_a_nodes_name_may_have_parts_without_letters(name):
    proto = _proto("(float[n, 4] x) => (float[n, 3] y) { h = MatMul (x, w)  y = Relu (h) }", w=_floats(4, 3))
    proto.graph.node[0].name = name
    model = frameworks.get("onnx").read(proto)
    assert all(all(node.name.split(".")) for node in model.graph)


@pytest.mark.parametrize("pads", [[0, -1, 0, 2], [0, 2, 0, -1], [0, 9, 0, 6]])
def test_what_is_wrapped_is_what_a_crop_leaves(pads):
    body = (
        f"(float[n, 4] x) => (float[n, m] y) {{ p = Constant <value_ints = {pads}> ()  y = Pad <mode = wrap> (x, p) }}"
    )
    _agree(_proto(body.replace("= wrap", '= "wrap"'), 19), x=_floats(2, 4))


def test_an_input_that_says_of_which_image_a_region_is_gets_numbers_of_images(tmp_path):
    body = """(float[n, 2, 8, 8] x, float[k, 4] r, int64[k] b) => (float[k, 2, 3, 3] y) {
        y = RoiAlign <output_height = 3, output_width = 3, sampling_ratio = 2> (x, r, b) }"""
    onnx.save(_proto(body), tmp_path / "m.onnx")
    dlbridge.convert(tmp_path / "m.onnx", "pytorch")


def test_a_file_says_no_inputs_behind_the_last_that_a_node_has():
    """onnxruntime ends the process at a layer normalization behind a sum whose bias is an empty name."""
    body = """(float[n, 3, 8] x, float[n, 3, 8] z) => (float[n, 3, 8] y) {
        s = Add (x, z)  y = LayerNormalization (s, w, ) }"""
    source = frameworks.get("onnx").read(_proto(body, w=_floats(8))).write("onnx")
    assert [len(node.inputs) for node in source.ir.graph] == [2, 2]


@pytest.mark.parametrize(
    ("cut", "printed"),
    [
        ("b = [0]  e = [1]  a = [1]  s = [1]", "x[:, 0]"),
        ("b = [-1]  e = [2147483647]  a = [1]  s = [1]", "x[:, -1]"),
        ("b = [-2]  e = [-1]  a = [-2]  s = [1]", "x[:, -2]"),
        ("b = [0, 2]  e = [1000000000, 1000000000]  a = [0, 1]  s = [1, 1000000000]", "[:, 2]"),
    ],
)
def test_a_slice_of_one_element_whose_axis_is_dropped_is_an_index(cut, printed):
    constants = re.sub(r"(\w) = (\[.*?\])", r"\1 = Constant <value_ints = \2> ()", cut)
    body = f"""(float[n, 3, 4] x) => (float[n, 4] y) {{
        {constants}  d = Constant <value_ints = [1]> ()  c = Slice (x, b, e, a, s)  y = Squeeze (c, d) }}"""
    _agree(_proto(body), x=_floats(2, 3, 4))
    assert printed in frameworks.get("onnx").read(_proto(body)).write("pytorch").text


def test_blocks_of_channels_whose_number_is_free():
    """As tf2onnx writes space_to_batch: the batch stands where the channels do."""
    body = """(float[n, 4, 4, 8] x) => (float[a, b, c, d] y) {
        t = Transpose <perm = [3, 1, 2, 0]> (x)  c = Transpose <perm = [0, 3, 1, 2]> (t)
        s = SpaceToDepth <blocksize = 2> (c)  y = DepthToSpace <blocksize = 2> (s) }"""
    _agree(_proto(body), x=_floats(2, 4, 4, 8))
