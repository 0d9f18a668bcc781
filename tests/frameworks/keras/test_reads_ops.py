"""Every function of ``keras.ops``: read and run as ONNX, or refused by name. The table is the coverage."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError
from dlbridge.frameworks.keras.graph.building import IR_DTYPES
from tests.helpers import keras_ops_image, keras_ops_math
from tests.helpers.keras_reading import error, inputs_of, outputs_of


def words(text: str) -> list[str]:
    return text.split()


F, INT, B = "float32", "int32", "bool"
X = ((3, 4), F)
POSITIVE = ((3, 4), "positive")
SMALL = ((3, 4), "small")
N = ((3, 4), INT)
T = ((3, 4), B)
IMAGE = ((6, 8, 3), F)

UNARY = words(
    """
    abs absolute negative sign sin cos tan sinh cosh tanh arctan arcsinh exp exp2 expm1 square floor ceil round
    trunc rint fabs isnan isinf isfinite isneginf isposinf isreal signbit zeros_like ones_like empty_like copy conj
    conjugate real sigmoid relu relu6 silu swish softplus softsign selu mish gelu elu celu hard_sigmoid hard_silu
    hard_swish hard_tanh hard_shrink soft_shrink tanh_shrink log_sigmoid leaky_relu squareplus sparse_plus
    sparse_sigmoid softmax log_softmax sparsemax erf erfc deg2rad rad2deg sinc cbrt logical_not all any amax amin
    max min mean median prod ptp std sum var argmax argmin sort argsort cumsum cumprod nansum nanmax nanmin nanmean
    nanprod nanstd nanvar nancumsum count_nonzero logsumexp norm normalize ravel transpose squeeze fliplr flipud
    nan_to_num tril triu trace diagonal diag diagflat stop_gradient convert_to_tensor size layer_normalization
    rms_normalization glu
    """
)
BINARY = words(
    """
    add subtract multiply divide true_divide maximum minimum power floor_divide mod fmod divide_no_nan fmax fmin
    equal not_equal greater greater_equal less less_equal logical_and logical_or logical_xor logaddexp logaddexp2
    hypot arctan2 heaviside isclose matmul_ outer inner_ vdot append remainder
    """
)
CASES: dict[str, tuple] = {
    "arange": (lambda x: x + ops.arange(4, dtype="float32"), X),
    "arccos": (ops.arccos, SMALL),
    "arcsin": (ops.arcsin, SMALL),
    "arctanh": (ops.arctanh, SMALL),
    "arccosh": (lambda x: ops.arccosh(x + 1), POSITIVE),
    "log": (ops.log, POSITIVE),
    "log10": (ops.log10, POSITIVE),
    "log1p": (ops.log1p, POSITIVE),
    "log2": (ops.log2, POSITIVE),
    "sqrt": (ops.sqrt, POSITIVE),
    "rsqrt": (ops.rsqrt, POSITIVE),
    "reciprocal": (ops.reciprocal, POSITIVE),
    "array": (lambda x: ops.array(x), X),
    "array_split": (lambda x: ops.array_split(x, 3, axis=1), X),
    "average": (lambda x: ops.average(x, axis=2, weights=np.array([1.0, 2.0, 3.0, 4.0], F)), X),
    "adaptive_average_pool": (lambda x: ops.adaptive_average_pool(x, (2, 3)), IMAGE),
    "adaptive_max_pool": (lambda x: ops.adaptive_max_pool(x, (2, 3)), IMAGE),
    "average_pool": (lambda x: ops.average_pool(x, 3, strides=2, padding="same"), IMAGE),
    "batch_normalization": (
        lambda x: ops.batch_normalization(x, np.ones(4, F), 2 * np.ones(4, F), -1, np.ones(4, F), 3 * np.ones(4, F)),
        X,
    ),
    "bitwise_and": (ops.bitwise_and, N, N),
    "bitwise_or": (ops.bitwise_or, N, N),
    "bitwise_xor": (ops.bitwise_xor, N, N),
    "bitwise_not": (ops.bitwise_not, N),
    "bitwise_invert": (ops.bitwise_invert, N),
    "bitwise_left_shift": (lambda x: ops.bitwise_left_shift(x, 2), N),
    "bitwise_right_shift": (lambda x: ops.bitwise_right_shift(x, 1), N),
    "left_shift": (lambda x: ops.left_shift(x, 2), N),
    "right_shift": (lambda x: ops.right_shift(x, 1), N),
    "broadcast_to": (lambda x: ops.broadcast_to(ops.sum(x, axis=(0, 1), keepdims=True), (2, 3, 4)), X),
    "cast": (lambda x: ops.cast(x * 3, "int32"), X),
    "saturate_cast": (lambda x: ops.saturate_cast(x * 300, "uint8"), X),
    "saturate_cast of integers": (lambda x: ops.saturate_cast(x * 200 - 300, "uint8"), N),
    "saturate_cast to truth": (lambda x: ops.saturate_cast(x - 0.5, "bool"), X),
    "saturate_cast to half": (lambda x: ops.saturate_cast(x * 1e6, "float16"), X),
    "cdist": (ops.cdist, X, X),
    "clip": (lambda x: ops.clip(x, -0.5, 0.7), X),
    "concatenate": (lambda x, y: ops.concatenate([x, y], axis=1), X, X),
    "conv": (lambda x: ops.conv(x, np.ones((3, 3, 3, 4), F), strides=2, padding="same"), IMAGE),
    "depthwise_conv": (lambda x: ops.depthwise_conv(x, np.ones((3, 3, 3, 2), F)), IMAGE),
    "separable_conv": (lambda x: ops.separable_conv(x, np.ones((3, 3, 3, 2), F), np.ones((1, 1, 6, 4), F)), IMAGE),
    "max_pool": (lambda x: ops.max_pool(x, 2, padding="same"), IMAGE),
    "cross": (ops.cross, ((4, 3), F), ((4, 3), F)),
    "depth_to_space": (lambda x: ops.depth_to_space(x, 2), ((4, 6, 8), F)),
    "space_to_depth": (lambda x: ops.space_to_depth(x, 2), ((4, 6, 3), F)),
    "det": (ops.det, ((4, 4), F)),
    "digitize": (lambda x: ops.digitize(x, np.array([-1.0, 0.0, 1.0], F)), X),
    "searchsorted": (lambda x: ops.searchsorted(np.array([-1.0, 0.0, 1.0], F), ops.reshape(x, (-1,))), X),
    "dot": (lambda x: ops.dot(x, np.ones((4, 5), F)), X),
    "dot_product_attention": (
        lambda q, k: ops.dot_product_attention(q, k, k, is_causal=False),
        ((5, 2, 4), F),
        ((5, 2, 4), F),
    ),
    "dsplit": (lambda x: ops.dsplit(x, 2), ((3, 4), F)),
    "dstack": (lambda x, y: ops.dstack([x, y]), ((3,), F), ((3,), F)),
    "einsum": (lambda x, y: ops.einsum("bij,bjk->bik", x, y), ((3, 4), F), ((4, 2), F)),
    "expand_dims": (lambda x: ops.expand_dims(x, (1, -1)), X),
    "extract_patches": (lambda x: ops.image.extract_patches(x, (2, 2), padding="same"), IMAGE),
    "flip": (lambda x: ops.flip(x, axis=1), X),
    "full": (lambda x: x + ops.full((4,), 2.0), X),
    "full_like": (lambda x: ops.full_like(x, 3.0), X),
    "get_item": (lambda x: x[:, 1:3, None, -1], X),
    "hsplit": (lambda x: ops.hsplit(x, 3), X),
    "hstack": (lambda x, y: ops.hstack([x, y]), X, X),
    "in_top_k": (lambda x: ops.in_top_k(ops.argmax(-x, axis=1), x, 2), ((5,), F)),
    "inner": (ops.inner, X, X),
    "isin": (lambda x: ops.isin(x, np.array([1, 3], INT)), N),
    "matmul": (lambda x, y: ops.matmul(x, ops.transpose(y, (0, 2, 1))), X, X),
    "meshgrid": (lambda x: ops.meshgrid(ops.reshape(x, (-1,)), np.arange(3, dtype=F)), ((2,), F)),
    "moments": (lambda x: ops.moments(x, axes=[1], keepdims=True), X),
    "moveaxis": (lambda x: ops.moveaxis(x, 1, -1), X),
    "multi_hot": (lambda x: ops.multi_hot(x, 5, dtype="float32"), N),
    "one_hot": (lambda x: ops.one_hot(x, 5, axis=1), N),
    "pad": (lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 1)), constant_values=3.0), X),
    "pad reflect": (lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 1)), mode="reflect"), X),
    "percentile": (lambda x: ops.percentile(x, 30, axis=1), X),
    "quantile": (lambda x: ops.quantile(x, 0.3, axis=(1, 2), keepdims=True), X),
    "repeat": (lambda x: ops.repeat(x, 3, axis=1), X),
    "reshape": (lambda x: ops.reshape(x, (-1, 2, 6)), X),
    "rgb_to_grayscale": (ops.image.rgb_to_grayscale, IMAGE),
    "resize": (lambda x: ops.image.resize(x, (9, 5)), IMAGE),
    "pad_images": (lambda x: ops.image.pad_images(x, 1, 2, 0, 1), IMAGE),
    "crop_images": (lambda x: ops.image.crop_images(x, 1, 2, 0, 1), IMAGE),
    "crop_images to a size": (lambda x: ops.image.crop_images(x, 1, 2, target_height=3, target_width=4), IMAGE),
    "roll": (lambda x: ops.roll(x, 2, axis=1), X),
    "rot90": (lambda x: ops.rot90(x, 1, axes=(1, 2)), X),
    "scatter": (lambda x: ops.scatter(np.array([[1], [3]], INT), ops.reshape(x, (2, -1)), (5, 18)), X),
    "scatter_update": (
        lambda x: ops.scatter_update(x, np.array([[0, 1, 1], [2, 0, 3]], INT), np.array([7.0, 8.0], F)),
        X,
    ),
    "segment_sum": (
        lambda x: ops.segment_sum(ops.reshape(x, (-1,)), np.arange(36).astype(INT) % 4, num_segments=4),
        X,
    ),
    "segment_max": (
        lambda x: ops.segment_max(ops.reshape(x, (-1,)), np.arange(36).astype(INT) % 4, num_segments=4),
        X,
    ),
    "segment_min": (
        lambda x: ops.segment_min(ops.reshape(x, (-1,)), np.arange(36).astype(INT) % 4, num_segments=4),
        X,
    ),
    "segment_prod": (
        lambda x: ops.segment_prod(ops.reshape(x, (-1,)), np.arange(36).astype(INT) % 4, num_segments=4),
        X,
    ),
    "select": (lambda x: ops.select([x > 0.5, x > 0], [x, -x], default=0.0), X),
    "slice": (lambda x: ops.slice(x, (0, 1, 2), (2, 2, 1)), X),
    "slice_update": (lambda x: ops.slice_update(x, (0, 1, 2), np.ones((2, 2, 1), F)), X),
    "split": (lambda x: ops.split(x, [1, 3], axis=2), X),
    "stack": (lambda x, y: ops.stack([x, y], axis=1), X, X),
    "swapaxes": (lambda x: ops.swapaxes(x, 1, 2), X),
    "take": (lambda x: ops.take(x, np.array([2, 0], INT), axis=1), X),
    "take_along_axis": (lambda x: ops.take_along_axis(x, ops.argsort(x, axis=1), axis=1), X),
    "tensordot": (lambda x: ops.tensordot(x, np.ones((4, 5), F), axes=1), X),
    "threshold": (lambda x: ops.threshold(x, 0.2, -1.0), X),
    "tile": (lambda x: ops.tile(x, (1, 2, 3)), X),
    "top_k": (lambda x: ops.top_k(x, 2), X),
    "unstack": (lambda x: ops.unstack(x, axis=1), X),
    "vsplit": (lambda x: ops.vsplit(ops.reshape(x, (4, 9)), 2), X),
    "vstack": (lambda x, y: ops.vstack([x, y]), X, X),
    "where": (lambda x: ops.where(x > 0, x, 0.0), X),
    "zeros": (lambda x: x + ops.zeros((4,)), X),
    "ones": (lambda x: x + ops.ones((4,)), X),
    "identity": (lambda x: ops.matmul(x, ops.identity(4)), X),
    "eye": (lambda x: ops.matmul(x, ops.eye(4)), X),
    "linspace": (lambda x: x + ops.linspace(0.0, 1.0, 4), X),
    "shape": (lambda x: ops.reshape(x, (-1, ops.shape(x)[1] * ops.shape(x)[2])), X),
}
CASES |= {
    name: (getattr(ops, name), ((3, 3), F) if name in ("trace", "diagonal") else X)
    for name in UNARY
    if hasattr(ops, name)
}
CASES |= {
    "all": (lambda x: ops.all(x, axis=1), T),
    "any": (lambda x: ops.any(x, axis=(1, 2), keepdims=True), T),
    "logical_not": (ops.logical_not, T),
    "squeeze": (lambda x: ops.squeeze(x, 1), ((1, 4), F)),
    "diag": (lambda x: ops.diag(ops.reshape(x, (4, 9))), X),
    "diagflat": (lambda x: ops.diagflat(ops.reshape(x, (6, 6))[0]), X),
    "fliplr": (ops.fliplr, X),
    "glu": (lambda x: ops.glu(x, axis=-1), X),
    "diagonal": (lambda x: ops.diagonal(x, offset=1, axis1=1, axis2=2), X),
    "trace": (lambda x: ops.trace(x, axis1=1, axis2=2), X),
    "tril": (lambda x: ops.tril(x, k=-1), X),
    "max": (lambda x: ops.max(x, axis=1, keepdims=True, initial=0.5), X),
    "sort": (lambda x: ops.sort(x, axis=1), X),
    "norm": (lambda x: ops.norm(x, ord=1, axis=1), X),
    "normalize": (lambda x: ops.normalize(x, axis=1, order=2), X),
    "median": (lambda x: ops.median(x, axis=1), X),
    "layer_normalization": (lambda x: ops.layer_normalization(x, axis=-1), X),
    "rms_normalization": (lambda x: ops.rms_normalization(x, axis=-1), X),
    "round": (lambda x: ops.round(x, 1), X),
}
for _name in BINARY:
    if hasattr(ops, _name) and _name not in CASES:
        CASES[_name] = (getattr(ops, _name), X, POSITIVE if _name in ("power", "mod", "fmod", "remainder") else X)
CASES |= {
    "power": (ops.power, POSITIVE, X),
    "floor_divide": (ops.floor_divide, X, POSITIVE),
    "logical_and": (ops.logical_and, T, T),
    "logical_or": (ops.logical_or, T, T),
    "logical_xor": (ops.logical_xor, T, T),
    "add of integers and floats": (ops.add, N, X),
    "floor_divide of integers": (lambda x: ops.floor_divide(x - 2, 3), N),
    "mod of integers": (lambda x: ops.mod(x - 2, 3), N),
    "divide of integers": (lambda x: ops.divide(x, 2), N),
    "mean of integers": (ops.mean, N),
    "sum of integers": (lambda x: ops.sum(x, axis=1), N),
    "argmax along an axis": (lambda x: ops.argmax(x, axis=1), X),
}
CASES |= keras_ops_image.CASES | keras_ops_math.CASES
#: What ONNX has no words for, or nobody has asked for yet: a model with one of these is refused by its name.
REFUSED = words(
    """
    argpartition cholesky cholesky_inverse convert_to_numpy ctc_decode ctc_loss custom_gradient dtype
    eig eigh elastic_transform empty inv is_tensor jvp lstsq lu_factor matrix_rank nextafter pinv polar qr solve
    solve_triangular svd vectorize view view_as_complex view_as_real
    """
)

#: ``ndim`` is a Python int while Keras traces; a recorded ``conv_transpose`` is what Keras 3.15 itself cannot run;
#: control flow runs in the code of layers (test_reads_keras_control.py).
ELSEWHERE = {"ndim", "conv_transpose", "cond", "switch", "while_loop", "fori_loop", "scan", "map", "vectorized_map"}


def model_of(case: tuple) -> keras.Model:
    function, *signature = case
    inputs = [
        keras.Input(shape, dtype=kind if kind in (F, INT, B) else F, name=f"x{i}")
        for i, (shape, kind) in enumerate(signature)
    ]
    outputs = function(*inputs)
    return keras.Model(inputs, list(outputs) if isinstance(outputs, (tuple, list)) else outputs)


def data_of(read, case: tuple) -> dict[str, np.ndarray]:
    data = inputs_of(read)
    for name, (_, kind) in zip(data, case[1:], strict=True):
        if kind == "positive":
            data[name] = np.abs(data[name]) + 0.1
        elif kind == "small":
            data[name] = np.tanh(data[name]) * 0.9
    return data


@pytest.mark.parametrize("name", CASES)
def test_operation(name):
    model = model_of(CASES[name])
    read = frameworks.get("keras").read(model)
    data = data_of(read, CASES[name])
    wanted = outputs_of(model, list(data.values()), list(data))
    onnx = frameworks.get("onnx")
    written = read.write("onnx", **({"opset": 26} if "cumprod" in name else {}))
    got = onnx.run(onnx.load(written), data)
    for value, reference in zip(read.outputs, wanted, strict=True):
        assert error(got[value.name], reference) <= 3e-6


def test_the_greatest_number_of_a_type_that_numpy_has_not():
    x = keras.Input((3,), dtype="bfloat16", name="x")
    model = keras.Model(x, ops.nan_to_num(x, nan=2.0))
    framework = frameworks.get("keras")
    data = {"x": np.array([[np.inf, -np.inf, np.nan]], "float32").astype(IR_DTYPES["bfloat16"].numpy())}
    (got,) = framework.run(framework.load(framework.read(model).write("keras")), data).values()
    np.testing.assert_array_equal(got, keras.ops.convert_to_numpy(model(data["x"])))


def test_what_keras_itself_computes_wrong_is_refused():
    x = keras.Input((3, 4), name="x")
    with pytest.raises(UnsupportedOpError, match="half a turn"):
        frameworks.get("keras").read(keras.Model(x, ops.rot90(x, 2, axes=(1, 2))))


@pytest.mark.parametrize("name", ["inv", "cholesky", "eigh"])
def test_what_is_refused_is_named(name):
    inputs = [keras.Input((4, 4), name="x")]
    outputs = getattr(ops, name)(inputs[0])
    with pytest.raises(UnsupportedOpError, match="(?i)" + name):
        frameworks.get("keras").read(keras.Model(inputs, outputs))


def test_the_table_is_whole():
    """Every public function of keras.ops is read (a case above) or refused."""
    public = {n for n in dir(ops) if not n.startswith("_") and callable(getattr(ops, n))}
    public |= {n for n in dir(ops.image) if not n.startswith("_") and callable(getattr(ops.image, n))}
    assert sorted(public - set(CASES) - set(REFUSED) - ELSEWHERE) == []
    assert sorted(set(REFUSED) & set(CASES)) == []
