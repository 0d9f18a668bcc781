"""Written models that resize and sample images whose sizes are known only at run time: Keras' against PyTorch."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import tensorflow
import torch
import torch.nn.functional as F

import dlbridge
from dlbridge import frameworks
from dlbridge.model import Model
from tests.helpers.architectures import FPN, randomized

KERAS = frameworks.get("keras")
DYNAMIC = torch.export.Dim.DYNAMIC


def runs(model, *shapes):
    """(inputs, what Keras makes of them), eagerly and in one graph for all sizes, where TensorFlow knows none."""
    live = KERAS.load(KERAS.write(model))
    signature = [tensorflow.TensorSpec([None if not isinstance(d, int) else d for d in v.shape]) for v in model.inputs]
    graph = tensorflow.function(lambda *x: live(x if len(x) > 1 else x[0]), input_signature=signature)
    rng = np.random.default_rng(0)
    for shape in shapes:
        arrays = [rng.uniform(-1.5, 1.5, s).astype(np.float32) for s in shape]
        yield (
            arrays,
            next(iter(KERAS.run(live, dict(zip([v.name for v in model.inputs], arrays, strict=True))).values())),
        )
        yield arrays, graph(*arrays).numpy()


def check(module, example, *shapes):
    """Against PyTorch: the module is exported with all sizes dynamic but those of the axes 1 of images, 3 of points."""
    given = tuple(torch.zeros(s) for s in example)
    fixed = tuple(3 if s[-1] == 2 else 1 for s in example)
    dynamic = tuple({axis: DYNAMIC for axis in range(4) if axis != f} for f in fixed)
    model = dlbridge.load(torch.export.export(module.eval(), given, dynamic_shapes=dynamic))
    for arrays, got in runs(model, *shapes):
        with torch.no_grad():
            right = module(*map(torch.from_numpy, arrays)).numpy()
        assert got.shape == right.shape
        np.testing.assert_allclose(got, right, 1e-5, 1e-5)


@pytest.mark.parametrize(
    "how",
    [
        {"mode": "nearest"},
        {"mode": "bilinear"},
        {"mode": "bilinear", "align_corners": True},
        {"mode": "bicubic", "antialias": True},
    ],
    ids=str,
)
def test_levels_are_resized_to_each_others_sizes(how):
    check(randomized(FPN(**how)), [(2, 3, 32, 40)], [(1, 3, 33, 47)], [(3, 3, 9, 62)], [(2, 3, 17, 24)])


class Scaled(torch.nn.Module):
    def __init__(self, **how):
        super().__init__()
        self.how = how

    def forward(self, x):
        return F.interpolate(x, **self.how)


@pytest.mark.parametrize(("mode", "factor"), [("nearest", 1.5), ("bilinear", 2), ("bilinear", 0.4), ("bicubic", 1.5)])
def test_sizes_that_are_not_known_are_scaled(mode, factor):
    check(Scaled(mode=mode, scale_factor=factor), [(2, 3, 20, 30)], [(1, 3, 15, 22)], [(2, 3, 9, 35)])


@pytest.mark.parametrize("antialias", [False, True])
def test_one_pixel_is_the_middle_of_an_image(antialias):
    """As PyTorch has it, and the standard's half_pixel; its pytorch_half_pixel is what PyTorch once had."""
    module = Scaled(mode="bilinear", size=(1, 3), antialias=antialias)
    x = torch.randn(2, 3, 6, 6)
    for model in (dlbridge.load(module, inputs={"x": shape}) for shape in ("float32[2,3,6,6]", "float32[2,3,h,w]")):
        for framework in map(frameworks.get, ("onnx", "pytorch", "keras")):
            (got,) = framework.run(framework.load(framework.write(model)), {"x": x.numpy()}).values()
            np.testing.assert_allclose(got, module(x), 1e-5, 1e-5, err_msg=framework.name)


_SIZES = """m (float[B, 2, H, W] x, float[C, D, I, J] z) => (float[B, 2, I, J] y) {
    a = Shape <end = 2> (x)  b = Shape <start = 2> (z)  s = Concat <axis = 0> (a, b)
    y = Resize <%s> (x, , , s)
}"""


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
)
def test_all_coordinates_of_the_standard(coordinates, mode):
    options = f'mode = "{mode}", coordinate_transformation_mode = "{coordinates}"'
    graph = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 19]> {_SIZES % options}')
    judge = onnxruntime.InferenceSession(graph.SerializeToString())
    sizes = [((5, 8), (9, 7)), ((6, 3), (3, 6)), ((7, 7), (1, 1)), ((1, 4), (3, 9))]
    shapes = [[(2, 2, *start), (2, 2, *end)] for start, end in sizes]
    torchs = frameworks.get("pytorch")
    live = torchs.load(torchs.write(Model(ir.from_proto(graph))))
    for (x, z), got in runs(Model(ir.from_proto(graph)), *shapes):
        right = judge.run(None, {"x": x, "z": z})[0]
        np.testing.assert_allclose(got, right, 1e-5, 1e-5)
        np.testing.assert_allclose(torchs.run(live, {"x": x, "z": z})["y"], right, 1e-5, 1e-5)


class Sampled(torch.nn.Module):
    def __init__(self, **how):
        super().__init__()
        self.how = how

    def forward(self, x, points):
        return F.grid_sample(x, points, **self.how)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(("mode", "padding"), [("bilinear", "zeros"), ("nearest", "border"), ("bicubic", "reflection")])
def test_points_are_read_from_images_of_any_size(mode, padding, align):
    sizes = [(2, 5, 8, 4, 3), (3, 9, 1, 2, 6), (2, 12, 10, 7, 9)]
    shapes = [[(b, 3, h, w), (b, i, j, 2)] for b, h, w, i, j in sizes]
    check(Sampled(mode=mode, padding_mode=padding, align_corners=align), [(2, 3, 12, 10), (2, 7, 9, 2)], *shapes)


@pytest.mark.parametrize("align", [0, 1])
def test_points_are_made_for_images_of_any_size(align):
    """A spatial transformer, as ONNX has it: torch.export fixes the sizes that affine_grid is given."""
    graph = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["": 20]>
        m (float[B, 3, H, W] x, float[B, 2, 3] theta) => (float[B, 3, H, W] y) {{
            s = Shape (x)  points = AffineGrid <align_corners = {align}> (theta, s)
            y = GridSample <align_corners = {align}> (x, points)
        }}""")
    shapes = [[(b, 3, h, w), (b, 2, 3)] for b, h, w in [(2, 7, 9), (3, 5, 1), (1, 12, 10)]]
    for (x, theta), got in runs(Model(ir.from_proto(graph)), *shapes):
        points = F.affine_grid(torch.from_numpy(theta), x.shape, align_corners=bool(align))
        right = F.grid_sample(torch.from_numpy(x), points, align_corners=bool(align))
        np.testing.assert_allclose(got, right, 1e-4, 1e-5)


class Aligned(torch.nn.Module):
    def forward(self, x, like):
        size = like.shape[2:]
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def test_corners_are_aligned_by_a_small_helper():
    """To more elements, to fewer, and to and from one."""
    check(Aligned(), [(2, 3, 6, 5), (2, 3, 9, 8)], [(2, 3, 6, 5), (2, 3, 11, 3)], [(1, 3, 4, 7), (1, 3, 2, 1)])
    model = dlbridge.load(Scaled(scale_factor=2, mode="bilinear", align_corners=True), inputs={"x": "float32[n,3,h,w]"})
    text = KERAS.write(model).text
    assert "resize_aligned" in text and len(text.splitlines()) < 35
    for arrays, got in runs(model, [(2, 3, 1, 4)], [(1, 3, 5, 1)]):
        right = F.interpolate(torch.from_numpy(arrays[0]), scale_factor=2, mode="bilinear", align_corners=True)
        np.testing.assert_allclose(got, right.numpy(), 1e-5, 1e-6)


def test_a_long_signal_is_not_resized_by_products_of_sizes():
    model = dlbridge.load(Scaled(scale_factor=2, mode="linear", align_corners=True), inputs={"x": "float32[n,3,t]"})
    assert "resize_aligned" not in KERAS.write(model).text


@pytest.mark.parametrize(("layer", "shape"), [("UpSampling1D(3", (4, 2)), ("UpSampling3D(2", (3, 4, 2, 2))])
def test_repeated_elements_of_sequences_and_volumes_are_the_layer(layer, shape):
    kind, size = layer.split("(")
    model = keras.Sequential([keras.Input(shape), getattr(keras.layers, kind)(int(size))])
    source = KERAS.read(model).write("keras")
    assert f"layers.{layer}" in source.text
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    (got,) = KERAS.run(KERAS.load(source), {source.inputs[0]: x}).values()
    np.testing.assert_array_equal(got, model(x))
