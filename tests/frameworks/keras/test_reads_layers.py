"""Every layer of ``keras.layers`` that has a meaning at inference: read, written as ONNX, run, compared with Keras."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers as L

from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError
from tests.helpers.keras_reading import errors, randomise

FIRST = {"data_format": "channels_first"}

#: Name -> (makes a layer, shape of its input without the batch).
PLAIN = {
    "dense": (lambda: L.Dense(5, activation="gelu"), (4,)),
    "dense of sequences": (lambda: L.Dense(5, use_bias=False), (3, 4)),
    "einsum dense": (lambda: L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), (3, 4)),
    "einsum dense, plain": (lambda: L.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", activation="relu"), (3, 4)),
    "conv1d causal": (lambda: L.Conv1D(4, 3, padding="causal", dilation_rate=2), (9, 3)),
    "conv1d same stride": (lambda: L.Conv1D(4, 4, strides=3, padding="same"), (10, 3)),
    "conv2d groups": (lambda: L.Conv2D(6, (3, 2), groups=3, padding="same", activation="swish"), (7, 8, 3)),
    "conv2d same stride": (lambda: L.Conv2D(4, 3, strides=2, padding="same"), (8, 7, 3)),
    "conv2d dilation": (lambda: L.Conv2D(4, 3, dilation_rate=(2, 1), padding="same"), (8, 7, 3)),
    "conv2d channels first": (lambda: L.Conv2D(4, 3, padding="same", **FIRST), (3, 8, 7)),
    "conv3d": (lambda: L.Conv3D(4, 2, strides=(1, 2, 1), padding="same"), (4, 5, 6, 2)),
    "depthwise 1d": (lambda: L.DepthwiseConv1D(3, depth_multiplier=2, padding="same"), (8, 3)),
    "depthwise 2d": (lambda: L.DepthwiseConv2D(3, strides=2, padding="same", activation="relu6"), (8, 7, 3)),
    "depthwise 2d multiplier": (lambda: L.DepthwiseConv2D(3, depth_multiplier=3, use_bias=False), (8, 7, 2)),
    "separable 1d": (lambda: L.SeparableConv1D(5, 3, strides=2, padding="same"), (8, 3)),
    "separable 2d": (lambda: L.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=2), (8, 7, 3)),
    "transposed 1d": (lambda: L.Conv1DTranspose(4, 4, strides=2, padding="same"), (6, 3)),
    "transposed 2d valid": (lambda: L.Conv2DTranspose(4, 3, strides=2), (5, 4, 3)),
    "transposed 2d same": (lambda: L.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu"), (5, 4, 3)),
    "transposed 2d dilated": (lambda: L.Conv2DTranspose(4, 3, dilation_rate=2), (5, 4, 3)),
    "transposed 2d small kernel": (lambda: L.Conv2DTranspose(4, 2, strides=3, padding="same"), (5, 4, 3)),
    "transposed 2d small valid": (lambda: L.Conv2DTranspose(4, 2, strides=3), (5, 4, 3)),
    "transposed 2d output padding": (lambda: L.Conv2DTranspose(4, 3, strides=2, output_padding=1), (5, 4, 3)),
    "transposed 3d": (lambda: L.Conv3DTranspose(2, 3, strides=2, padding="same"), (3, 4, 3, 2)),
    "max pool 1d": (lambda: L.MaxPooling1D(3, strides=2, padding="same"), (8, 3)),
    "max pool 2d": (lambda: L.MaxPooling2D((2, 3), strides=1, padding="same"), (8, 7, 3)),
    "max pool 2d first": (lambda: L.MaxPooling2D(2, **FIRST), (3, 8, 7)),
    "max pool 3d": (lambda: L.MaxPooling3D(2), (4, 6, 5, 2)),
    "average pool 1d": (lambda: L.AveragePooling1D(2), (8, 3)),
    "average pool 2d same": (lambda: L.AveragePooling2D(3, strides=2, padding="same"), (8, 7, 3)),
    "average pool 3d": (lambda: L.AveragePooling3D(2, padding="same"), (4, 5, 6, 2)),
    "global average 1d": (lambda: L.GlobalAveragePooling1D(), (8, 3)),
    "global average 2d keep": (lambda: L.GlobalAveragePooling2D(keepdims=True), (8, 7, 3)),
    "global average 3d": (lambda: L.GlobalAveragePooling3D(), (4, 5, 6, 2)),
    "global max 1d": (lambda: L.GlobalMaxPooling1D(keepdims=True), (8, 3)),
    "global max 2d first": (lambda: L.GlobalMaxPooling2D(**FIRST), (3, 8, 7)),
    "global max 3d": (lambda: L.GlobalMaxPooling3D(), (4, 5, 6, 2)),
    "adaptive average 1d": (lambda: L.AdaptiveAveragePooling1D(3), (8, 2)),
    "adaptive average 2d": (lambda: L.AdaptiveAveragePooling2D((2, 3)), (8, 7, 2)),
    "adaptive max 2d": (lambda: L.AdaptiveMaxPooling2D((4, 3)), (8, 7, 2)),
    "adaptive average 3d": (lambda: L.AdaptiveAveragePooling3D(2), (4, 5, 6, 2)),
    "batch norm": (lambda: L.BatchNormalization(momentum=0.9, epsilon=1e-4), (8, 7, 3)),
    "batch norm of vectors": (lambda: L.BatchNormalization(), (6,)),
    "batch norm axis 1": (lambda: L.BatchNormalization(axis=1), (3, 8, 7)),
    "batch norm no scale": (lambda: L.BatchNormalization(scale=False), (8, 7, 3)),
    "batch norm no center": (lambda: L.BatchNormalization(center=False), (8, 3)),
    "layer norm": (lambda: L.LayerNormalization(epsilon=1e-5), (8, 5)),
    "layer norm axes": (lambda: L.LayerNormalization(axis=[1, 2]), (4, 5)),
    "layer norm axis 1": (lambda: L.LayerNormalization(axis=1), (4, 5)),
    "layer norm plain": (lambda: L.LayerNormalization(center=False, scale=False), (8, 5)),
    "group norm": (lambda: L.GroupNormalization(2), (5, 4, 6)),
    "group norm axis 1": (lambda: L.GroupNormalization(3, axis=1, scale=False), (6, 4, 5)),
    "instance norm": (lambda: L.GroupNormalization(-1), (5, 4, 6)),
    "group norm of vectors": (lambda: L.GroupNormalization(2), (6,)),
    "rms norm": (lambda: L.RMSNormalization(), (4, 6)),
    "rms norm of images": (lambda: L.RMSNormalization(epsilon=1e-3), (4, 5, 6)),
    "unit norm": (lambda: L.UnitNormalization(), (4, 6)),
    "spectral norm": (lambda: L.SpectralNormalization(L.Dense(4)), (6,)),
    "relu with all options": (lambda: L.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.3), (6,)),
    "relu threshold": (lambda: L.ReLU(threshold=0.3), (6,)),
    "relu slope": (lambda: L.ReLU(negative_slope=0.2), (6,)),
    "leaky relu": (lambda: L.LeakyReLU(0.1), (6,)),
    "elu": (lambda: L.ELU(0.7), (6,)),
    "prelu": (lambda: L.PReLU(), (5, 6)),
    "prelu shared": (lambda: L.PReLU(shared_axes=[1, 2]), (5, 6, 3)),
    "softmax": (lambda: L.Softmax(axis=1), (5, 6)),
    "softmax of two axes": (lambda: L.Softmax(axis=(1, 2)), (5, 6)),
    "flatten": (lambda: L.Flatten(), (3, 4, 2)),
    "flatten first": (lambda: L.Flatten(**FIRST), (2, 3, 4)),
    "flatten of numbers": (lambda: L.Flatten(), ()),
    "reshape": (lambda: L.Reshape((4, -1)), (3, 8)),
    "permute": (lambda: L.Permute((3, 1, 2)), (3, 4, 2)),
    "repeat vector": (lambda: L.RepeatVector(3), (4,)),
    "cropping 1d": (lambda: L.Cropping1D((1, 0)), (6, 2)),
    "cropping 2d": (lambda: L.Cropping2D(((1, 2), (0, 1))), (6, 5, 2)),
    "cropping 2d first": (lambda: L.Cropping2D(1, **FIRST), (2, 6, 5)),
    "cropping 3d": (lambda: L.Cropping3D(1), (4, 6, 5, 2)),
    "zero padding 1d": (lambda: L.ZeroPadding1D((1, 2)), (6, 2)),
    "zero padding 2d": (lambda: L.ZeroPadding2D(((1, 2), (0, 1))), (6, 5, 2)),
    "zero padding 2d first": (lambda: L.ZeroPadding2D(1, **FIRST), (2, 6, 5)),
    "zero padding 3d": (lambda: L.ZeroPadding3D(1), (4, 6, 5, 2)),
    "up sampling 1d": (lambda: L.UpSampling1D(3), (4, 2)),
    "up sampling 2d": (lambda: L.UpSampling2D((2, 3)), (4, 5, 2)),
    "up sampling 2d bilinear": (lambda: L.UpSampling2D(2, interpolation="bilinear"), (4, 5, 2)),
    "up sampling 2d bicubic": (lambda: L.UpSampling2D(2, interpolation="bicubic"), (4, 5, 2)),
    "up sampling 2d first": (lambda: L.UpSampling2D(2, **FIRST), (2, 4, 5)),
    "up sampling 3d": (lambda: L.UpSampling3D(2), (3, 4, 2, 2)),
    "identity": (lambda: L.Identity(), (4,)),
    "dropout": (lambda: L.Dropout(0.3), (4,)),
    "spatial dropout": (lambda: L.SpatialDropout2D(0.3), (4, 5, 2)),
    "alpha dropout": (lambda: L.AlphaDropout(0.3), (4,)),
    "gaussian noise": (lambda: L.GaussianNoise(0.3), (4,)),
    "gaussian dropout": (lambda: L.GaussianDropout(0.3), (4,)),
    "activity regularization": (lambda: L.ActivityRegularization(0.3), (4,)),
    "rescaling": (lambda: L.Rescaling(1 / 127.5, -1.0), (4, 5, 3)),
    "rescaling of channels": (lambda: L.Rescaling([0.1, 0.2, 0.3], [1.0, 2.0, 3.0]), (4, 5, 3)),
    "normalization": (lambda: L.Normalization(mean=[1.0, 2.0, 3.0], variance=[0.5, 1.0, 2.0]), (4, 5, 3)),
    "normalization inverted": (lambda: L.Normalization(mean=1.0, variance=0.5, axis=None, invert=True), (4, 3)),
    "resizing bilinear": (lambda: L.Resizing(7, 5), (4, 6, 2)),
    "resizing nearest": (lambda: L.Resizing(7, 5, interpolation="nearest"), (4, 6, 2)),
    "resizing bicubic": (lambda: L.Resizing(8, 6, interpolation="bicubic"), (4, 6, 2)),
    "resizing cropped to the ratio": (lambda: L.Resizing(4, 7, crop_to_aspect_ratio=True), (7, 9, 2)),
    "resizing padded to the ratio": (lambda: L.Resizing(4, 7, pad_to_aspect_ratio=True, fill_value=0.5), (9, 6, 2)),
    "resizing down": (lambda: L.Resizing(3, 4), (9, 7, 2)),
    "center crop": (lambda: L.CenterCrop(3, 4), (8, 7, 2)),
    "resizing, smooth and cropped": (lambda: L.Resizing(4, 3, antialias=True, crop_to_aspect_ratio=True), (9, 7, 2)),
    "adaptive pooling to one": (lambda: L.AdaptiveAveragePooling2D(1), (6, 4, 3)),
    "stochastic depth": (lambda: keras.src.applications.convnext.StochasticDepth(0.2), (4, 5, 3)),
    "center crop beyond": (lambda: L.CenterCrop(9, 4), (8, 7, 2)),
    "random flip": (lambda: L.RandomFlip(), (8, 7, 3)),
    "random rotation": (lambda: L.RandomRotation(0.2), (8, 7, 3)),
    "random zoom": (lambda: L.RandomZoom(0.2), (8, 7, 3)),
    "random contrast": (lambda: L.RandomContrast(0.2), (8, 7, 3)),
    "random crop": (lambda: L.RandomCrop(4, 5), (8, 7, 3)),
    "auto contrast": (lambda: L.AutoContrast(), (8, 7, 3)),
    "solarization": (lambda: L.Solarization(), (8, 7, 3)),
    "mel spectrogram": (
        lambda: L.MelSpectrogram(64, 16, sampling_rate=1000, num_mel_bins=8, min_freq=20, max_freq=400),
        (200,),
    ),
    "spectrogram": (lambda: L.STFTSpectrogram(frame_length=64, frame_step=32, fft_length=128), (500, 1)),
    "random brightness": (lambda: L.RandomBrightness(0.2), (8, 7, 3)),
    "random translation": (lambda: L.RandomTranslation(0.2, 0.2), (8, 7, 3)),
    "discretization": (lambda: L.Discretization([-0.5, 0.0, 0.5]), (6,)),
    "discretization one hot": (lambda: L.Discretization([-0.5, 0.5], output_mode="one_hot"), (6,)),
    "time distributed dense": (lambda: L.TimeDistributed(L.Dense(3)), (5, 4)),
    "time distributed conv": (lambda: L.TimeDistributed(L.Conv2D(3, 2)), (3, 5, 4, 2)),
}
ACTIVATIONS = (
    *("celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu"),
    *("hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6"),
    *("selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus"),
    *("sparse_sigmoid", "sparsemax", "squareplus", "tanh", "tanh_shrink"),
)
INTEGERS = {
    "discretization": (lambda: L.Discretization([1.5, 3.0]), (4,)),
    "embedding": (lambda: L.Embedding(5, 3), (4,)),
    "one hot": (lambda: L.CategoryEncoding(5, output_mode="one_hot"), ()),
    "multi hot": (lambda: L.CategoryEncoding(5), (4,)),
    "count": (lambda: L.CategoryEncoding(5, output_mode="count"), (4,)),
    "integer lookup": (lambda: L.IntegerLookup(vocabulary=[3, 1, 4]), (4,)),
    "integer lookup with a mask": (lambda: L.IntegerLookup(vocabulary=[3, 1, 4], mask_token=2), (4,)),
    "integer lookup, one-hot": (lambda: L.IntegerLookup(vocabulary=[3, 1], output_mode="one_hot"), (1,)),
    "integer lookup, multi-hot": (
        lambda: L.IntegerLookup(vocabulary=[3, 1], mask_token=4, output_mode="multi_hot"),
        (3,),
    ),
    "integer lookup, counts": (
        lambda: L.IntegerLookup(
            vocabulary=[3, 1], mask_token=4, output_mode="count", max_tokens=6, pad_to_max_tokens=True
        ),
        (5,),
    ),
    "integer lookup, tf-idf": (
        lambda: L.IntegerLookup(vocabulary=[3, 1], output_mode="tf_idf", idf_weights=[0.5, 2.0]),
        (5,),
    ),
    "integer lookup of several unknown": (lambda: L.IntegerLookup(vocabulary=[3, 1], num_oov_indices=2), (6,)),
    "integer lookup, the other way": (
        lambda: L.IntegerLookup(vocabulary=[7, 9], mask_token=5, oov_token=-3, invert=True),
        (6,),
    ),
}
MERGES = {
    "add": (L.Add, (4, 3), (4, 3)),
    "add broadcast": (L.Add, (4, 3), (3,)),
    "subtract": (L.Subtract, (4, 3), (4, 3)),
    "multiply": (L.Multiply, (4, 3), (1, 3)),
    "average": (L.Average, (4, 3), (4, 3)),
    "maximum": (L.Maximum, (4, 3), (4, 3)),
    "minimum": (L.Minimum, (4, 3), (4, 3)),
    "concatenate": (lambda: L.Concatenate(axis=1), (4, 3), (2, 3)),
    "dot": (lambda: L.Dot(axes=(2, 1)), (4, 3), (3, 5)),
    "dot of vectors": (lambda: L.Dot(axes=1, normalize=True), (4,), (4,)),
    "attention": (L.Attention, (4, 3), (5, 3)),
    "additive attention": (L.AdditiveAttention, (4, 3), (5, 3)),
}
REFUSED = {
    "Hashing": (lambda: L.Hashing(3), "int32"),
}


def model_of(layer, *shapes, dtype="float32"):
    inputs = [keras.Input(shape, dtype=dtype, name=f"x{i}") for i, shape in enumerate(shapes)]
    return randomise(keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0])))


@pytest.mark.parametrize("name", PLAIN)
def test_layer(name):
    make, shape = PLAIN[name]
    assert errors(model_of(make(), shape))["onnx"] <= 2e-6


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    assert errors(model_of(L.Activation(name), (3, 6)))["onnx"] <= 2e-6


@pytest.mark.parametrize("name", INTEGERS)
def test_layer_of_integers(name):
    make, shape = INTEGERS[name]
    assert errors(model_of(make(), shape, dtype="int32"))["onnx"] <= 1e-6


@pytest.mark.parametrize("name", MERGES)
def test_merging_layer(name):
    make, *shapes = MERGES[name]
    assert errors(model_of(make(), *shapes))["onnx"] <= 2e-6


@pytest.mark.parametrize("options", [{}, {"tie_weights": False}, {"logit_soft_cap": 2.0}])
def test_an_embedding_that_is_turned_around(options):
    x, embedding = keras.Input((4,), dtype="int32", name="x"), L.ReversibleEmbedding(5, 3, **options)
    assert errors(randomise(keras.Model(x, embedding(embedding(x), reverse=True))))["onnx"] <= 1e-6


@pytest.mark.parametrize("kind", [L.Concatenate, L.Add, L.Multiply, L.Maximum, L.Average, lambda: L.Dot(axes=1)])
def test_merging_layers_promote_their_inputs(kind):
    """Numbers beside one-hot classes, which are integers, as tutorials of structured data put them."""
    inputs = [keras.Input((4,), name="numbers"), keras.Input((4,), dtype="int32", name="classes")]
    assert errors(keras.Model(inputs, kind()(inputs)))["onnx"] <= 1e-6


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    make, dtype = REFUSED[name]
    with pytest.raises(UnsupportedOpError, match=name):
        frameworks.get("keras").read(model_of(make(), (3,), dtype=dtype))


def test_a_lambda_of_a_live_model_is_opened():
    """Its code has been run already, to make the model; a Lambda in a file is refused (``test_reads_files``)."""
    assert errors(model_of(L.Lambda(lambda x: x * 2 - keras.ops.sin(x)), (3,)))["onnx"] <= 1e-6


def test_a_model_of_mixed_precision_casts_where_keras_does():
    x = keras.Input((4,), name="x")
    y = L.Dense(8, dtype="mixed_bfloat16", activation="relu", name="half")(x)
    model = randomise(keras.Model(x, L.Dense(2, dtype="float32", name="head")(y)))
    found = frameworks.get("keras").read(model)
    assert str(found.graph.initializers["half.weight"].dtype) == "FLOAT"
    assert [str(n.outputs[0].dtype) for n in found.graph if n.name == "half"] == ["BFLOAT16"]


@pytest.mark.parametrize("name", ["batch norm", "layer norm", "group norm", "rms norm", "dense", "conv2d groups"])
def test_half_precision_is_normalised_in_float32(name):
    make, shape = PLAIN[name]
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = model_of(make(), shape)
    finally:
        keras.config.set_dtype_policy(before)
    assert errors(model)["onnx"] <= 2e-3


def test_spatial_sizes_may_be_unknown():
    x = keras.Input((None, None, 3), name="x")
    y = L.Conv2D(4, 3, strides=2, padding="same")(x)
    y = L.UpSampling2D(2, interpolation="bilinear")(L.BatchNormalization()(y))
    model = randomise(keras.Model(x, L.GlobalAveragePooling2D()(y)))
    assert errors(model, x_1=9, x_2=12)["onnx"] <= 2e-6


@pytest.mark.parametrize(("size", "tells"), [(32, False), (33, True)])
def test_bicubic_interpolation_that_tensorflow_rounds_is_told(size, tells):
    x = keras.Input((16, 16, 3), name="x")
    model = keras.Model(x, L.Resizing(size, size, interpolation="bicubic")(x))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = errors(model)["onnx"]
    assert any("bicubic" in str(each.message) for each in said) == tells == (found > 1e-5)


def test_every_layer_of_keras_is_read_opened_or_refused_by_name():
    """No public layer is unknown to the reader: it has a rule, is closed with a reason, or is opened by its code."""
    from dlbridge.frameworks.keras.graph.call_site import LAYERS
    from dlbridge.frameworks.keras.tracing.layer_code import _CLOSED

    opened = {
        *("Add", "AdditiveAttention", "Attention", "Masking", "SpectralNormalization", "UnitNormalization"),
        *("Lambda", "Layer", "Wrapper", "InputLayer", "Pipeline", "StackedRNNCells", "AutoContrast"),
        *("GRUCell", "LSTMCell", "SimpleRNNCell", "MelSpectrogram", "STFTSpectrogram"),
        *("ContrastLimitedAdaptiveHistogramEqualization", "Equalization", "MaxNumBoundingBoxes", "RandomCrop"),
        *("Solarization",),
    }
    public = {c.__name__ for c in vars(L).values() if isinstance(c, type) and issubclass(c, L.Layer)}
    assert public - set(LAYERS) - set(_CLOSED) - opened == set()
    assert np.isfinite(len(public))
