"""passes.upgrade: onnxruntime runs the old graph, then the upgraded one; the numbers stay."""

import warnings

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from dlbridge.errors import DlbridgeWarning, UnsupportedOpError
from dlbridge.ops.traits import IR_OPSET
from dlbridge.passes import shapes
from dlbridge.passes.upgrade import upgrade

#: (opset, signature of the inputs, body, initializers): one case for each change of meaning.
CASES = {
    "softmax flattens": (7, "float[2,3,4] x", "y = Softmax<axis = 1>(x)"),
    "softmax default axis": (12, "float[2,3,4] x", "y = Softmax(x)"),
    "softmax on the last axis": (11, "float[2,3,4] x", "y = Softmax<axis = -1>(x)"),
    "softmax axis of unit tail": (7, "float[2,3,1,1] x", "y = Softmax<axis = 1>(x)"),
    "softmax dynamic": (9, "float[a,b,c] x", "y = Softmax<axis = 1>(x)"),
    "log softmax": (9, "float[2,3,4] x", "y = LogSoftmax<axis = 0>(x)"),
    "hardmax": (9, "float[2,3,4] x", "y = Hardmax<axis = 1>(x)"),
    "squeeze": (7, "float[2,1,3,1] x", "y = Squeeze<axes = [1]>(x)"),
    "squeeze all": (7, "float[2,1,3,1] x", "y = Squeeze(x)"),
    "unsqueeze": (11, "float[2,3] x", "y = Unsqueeze<axes = [0, 3]>(x)"),
    "reduce sum": (11, "float[2,3,4] x", "y = ReduceSum<axes = [1], keepdims = 0>(x)"),
    "reduce mean": (17, "float[2,3,4] x", "y = ReduceMean<axes = [-1, 0]>(x)"),
    "reduce max all": (7, "float[2,3,4] x", "y = ReduceMax<keepdims = 0>(x)"),
    "clip": (7, "float[2,3] x", "y = Clip<min = -0.5, max = 0.5>(x)"),
    "clip one side": (10, "float[2,3] x", "y = Clip<min = 0.0>(x)"),
    "pad constant": (7, "float[2,3] x", 'y = Pad<mode = "constant", pads = [0, 1, 2, 0], value = 1.5>(x)'),
    "pad reflect": (10, "float[2,3] x", 'y = Pad<mode = "reflect", pads = [0, 1, 0, 2]>(x)'),
    "slice": (9, "float[4,6] x", "y = Slice<axes = [1], starts = [1], ends = [-1]>(x)"),
    "slice no axes": (7, "float[4,6] x", "y = Slice<starts = [1, 2], ends = [3, 9]>(x)"),
    "topk": (9, "float[2,5] x", "y, i = TopK<k = 2, axis = 1>(x)"),
    "split": (11, "float[2,5] x", "y, z = Split<axis = 1, split = [2, 3]>(x)"),
    "split evenly": (7, "float[2,6] x", "y, z, w = Split<axis = 1>(x)"),
    "dropout": (7, "float[2,5] x", "y = Dropout<ratio = 0.3>(x)"),
    "dropout no ratio": (12, "float[2,5] x", "y = Dropout(x)"),
    "upsample nearest": (7, "float[1,2,3,3] x", 'y = Upsample<mode = "nearest", scales = [1.0, 1.0, 2.0, 1.5]>(x)'),
    "upsample linear": (7, "float[1,2,3,3] x", 'y = Upsample<mode = "linear", scales = [1.0, 1.0, 2.0, 1.5]>(x)'),
    "upsample-9": (
        9,
        "float[1,2,3,3] x",
        "s = Constant<value = float[4] {1.0, 1.0, 2.0, 3.0}>() y = Upsample(x, s)",
    ),
    "resize-10 up": (
        10,
        "float[1,1,4,4] x",
        "s = Constant<value = float[4] {1.0, 1.0, 1.7, 2.3}>() y = Resize(x, s)",
    ),
    "resize-10 down": (
        10,
        "float[1,1,6,6] x",
        "s = Constant<value = float[4] {1.0, 1.0, 0.6, 0.5}>() y = Resize(x, s)",
    ),
    "resize-10 linear": (
        10,
        "float[1,1,6,6] x",
        's = Constant<value = float[4] {1.0, 1.0, 0.6, 2.5}>() y = Resize<mode = "linear">(x, s)',
    ),
    "resize-11 empty": (
        11,
        "float[1,1,4,4] x",
        """e = Constant<value = float[0] {}>() n = Constant<value_ints = [1, 1, 7, 3]>()
        y = Resize<mode = "cubic", coordinate_transformation_mode = "align_corners">(x, e, e, n)""",
    ),
    "resize-13 empty": (
        13,
        "float[1,1,4,4] x",
        """e = Constant<value = float[0] {}>() n = Constant<value_ints = [1, 1, 7, 3]>()
        y = Resize<mode = "cubic", coordinate_transformation_mode = "align_corners">(x, e, e, n)""",
    ),
    "resize-19 empty": (
        19,
        "float[1,1,4,4] x",
        """e = Constant<value = float[0] {}>() n = Constant<value_ints = [1, 1, 7, 3]>()
        y = Resize<mode = "cubic", coordinate_transformation_mode = "align_corners">(x, e, e, n)""",
    ),
    "resize-11 tf nearest": (
        11,
        "float[1,1,4,4] x",
        """e = Constant<value = float[0] {}>() s = Constant<value = float[4] {1.0, 1.0, 2.5, 0.5}>()
        y = Resize<coordinate_transformation_mode = "tf_half_pixel_for_nn", nearest_mode = "floor">(x, e, s)""",
    ),
    "scatter": (
        9,
        "float[3,3] x, float[1,2] u",
        "i = Constant<value = int64[1,2] {2, 0}>() y = Scatter<axis = 1>(x, i, u)",
    ),
    "batch norm": (
        7,
        "float[2,3,4] x, float[3] s, float[3] b, float[3] m",
        "v = Exp(m) y = BatchNormalization<epsilon = 0.01, momentum = 0.8>(x, s, b, m, v)",
    ),
    "batch norm spatial=0 on two axes": (
        7,
        "float[2,3] x, float[3] s, float[3] b, float[3] m",
        "v = Exp(m) y = BatchNormalization<spatial = 0>(x, s, b, m, v)",
    ),
    "grid sample": (
        16,
        "float[1,1,4,4] x, float[1,2,2,2] g",
        'y = GridSample<mode = "bicubic", padding_mode = "border">(x, g)',
    ),
    "roi align": (
        15,
        "float[1,1,6,6] x",
        """r = Constant<value = float[1,4] {0.5, 1.0, 4.5, 5.0}>() b = Constant<value = int64[1] {0}>()
        y = RoiAlign<output_height = 2, output_width = 2>(x, r, b)""",
    ),
    "group norm": (
        18,
        "float[2,4,3] x, float[2] s, float[2] b",
        "y = GroupNormalization<num_groups = 2, epsilon = 0.1>(x, s, b)",
    ),
    "gemm broadcast": (7, "float[2,3] x, float[3,4] w, float[4] b", "y = Gemm<alpha = 0.5>(x, w, b)"),
    "lstm": (7, "float[5,2,3] x, float[1,16,3] w, float[1,16,4] r", "y = LSTM<hidden_size = 4>(x, w, r)"),
    "max pool": (8, "float[1,1,5,5] x", 'y = MaxPool<kernel_shape = [2, 2], auto_pad = "SAME_UPPER">(x)'),
    "average pool": (
        7,
        "float[1,1,5,5] x",
        "y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>(x)",
    ),
    "subgraph": (
        11,
        "float[2,1,3] x",
        """z = ReduceMax<keepdims = 0>(x) c = Cast<to = 9>(z)
        y = If(c) <then_branch = t () => (a) { a = Squeeze<axes = [1]>(x) },
                   else_branch = e () => (b) { b = ReduceSum<axes = [1], keepdims = 0>(x) }>""",
    ),
}


def _model(opset: int, inputs: str, body: str) -> onnx.ModelProto:
    names = [n.strip() for n in body.split("=")[0].split(",")] if "y" in body.split("=")[0] else ["y"]
    text = f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => ({", ".join(names)}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    return onnx.shape_inference.infer_shapes(proto)


def _run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, feeds)
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:  # RoiAlign-22
        return ReferenceEvaluator(proto).run(None, feeds)


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_stay(name):
    old = _model(*CASES[name])
    model = ir.from_proto(old)
    for number, node in enumerate(model.graph.all_nodes()):
        node.name = f"n{number}"
    upgrade(model)
    shapes.infer(model)
    new = ir.to_proto(model)
    assert {o.domain: o.version for o in new.opset_import} == {"": IR_OPSET}
    if name != "group norm":  # onnx infers no shape for it
        onnx.checker.check_model(new, full_check=True)

    rng = np.random.default_rng(0)
    sizes = {"a": 2, "b": 3, "c": 4}
    feeds = {
        i.name: rng.normal(size=[d.dim_value or sizes[d.dim_param] for d in i.type.tensor_type.shape.dim]).astype("f4")
        for i in old.graph.input
    }
    assert [o.name for o in new.graph.output] == [o.name for o in old.graph.output]
    for expected, got in zip(_run(old, feeds), _run(new, feeds), strict=True):
        assert expected.shape == got.shape
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("opset", "inputs", "body", "message"),
    [
        (99, "float[2] x", "y = Relu(x)", "opset 99"),
        (7, "float[2,3,4] x, float[3,4] s", "y = BatchNormalization<spatial = 0>(x, s, s, s, s)", "spatial=0"),
        (10, "float[1,1,4,4] x, float[4] s", "y = Resize(x, s)", "nearest resizing"),
        (
            13,
            "float[9] x",
            "t = Constant<value = bool {1}>() z, m = Dropout(x, , t) y = Cast<to = 1>(m)",
            "mask is read",
        ),
        (18, "float[2,c,3] x, float[2] s", "y = GroupNormalization<num_groups = 2>(x, s, s)", "channels"),
    ],
)
def test_what_cannot_be_said_is_an_error(opset, inputs, body, message):
    model = ir.from_proto(_model(opset, inputs, body))
    with pytest.raises(UnsupportedOpError, match=message):
        upgrade(model)


def test_training_mode_becomes_inference():
    body = """y, m2, v2 = BatchNormalization<training_mode = 1>(x, s, s, s, s)"""
    model = ir.from_proto(_model(15, "float[2,3] x, float[3] s", body))
    while len(model.graph.outputs) > 1:
        model.graph.outputs.pop()
    with pytest.warns(DlbridgeWarning, match="BatchNormalization 'y' is in training mode"):
        upgrade(model)
    (node,) = model.graph
    assert len(node.outputs) == 1 and "training_mode" not in node.attributes


@pytest.mark.parametrize("training, is_told", [("bool {1}", True), ("bool {0}", False)])
def test_dropout_in_training_mode_is_told(training, is_told):
    body = f"r = Constant<value_float = 0.5>() t = Constant<value = {training}>() y = Dropout(x, r, t)"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        upgrade(ir.from_proto(_model(15, "float[2,3] x", body)))
    assert bool(told) == is_told


def test_a_graph_of_today_is_left_alone():
    model = ir.from_proto(_model(IR_OPSET, "float[2,3,4] x", "y = Softmax<axis = 1>(x)"))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    upgrade(model)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
