"""Models as the tutorials of Keras build them: custom layers, subclassed models, several inputs, losses inside.

``python -m tests.sweeps.test_keras_examples [name ...]`` prints the table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from keras import layers, ops

import dlbridge
from dlbridge import frameworks
from dlbridge.verification.compare import relative_error
from dlbridge.verification.inputs.arrays import random_inputs
from tests.helpers.keras_reading import outputs_of, randomise

TARGETS = ("pytorch", "onnx", "keras")
MODELS: dict[str, Callable[[], keras.Model]] = {}


def model(build):
    MODELS[build.__name__] = build
    return build


class TransformerBlock(layers.Layer):
    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential([layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)])
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        attn_output = self.dropout1(self.att(inputs, inputs))
        out1 = self.layernorm1(inputs + attn_output)
        return self.layernorm2(out1 + self.dropout2(self.ffn(out1)))


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, maxlen, vocab_size, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.token_emb = layers.Embedding(vocab_size, embed_dim)
        self.pos_emb = layers.Embedding(maxlen, embed_dim)

    def call(self, x):
        positions = ops.arange(0, ops.shape(x)[-1], 1)
        return self.token_emb(x) + self.pos_emb(positions)


@model
def text_transformer():
    inputs = layers.Input(shape=(20,))
    x = TokenAndPositionEmbedding(20, 100, 16)(inputs)
    x = TransformerBlock(16, 2, 32)(x)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Dense(20, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


class CausalBlock(layers.Layer):
    """Of miniature GPT: a mask made of sizes."""

    def __init__(self, embed_dim, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.att = layers.MultiHeadAttention(num_heads, embed_dim)
        self.norm = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        shape = ops.shape(inputs)
        batch, length = shape[0], shape[1]
        i = ops.arange(length)[:, None]
        j = ops.arange(length)
        mask = ops.cast(i >= j, "bool")
        mask = ops.reshape(mask, [1, length, length])
        mask = ops.broadcast_to(mask, (batch, length, length))
        return self.norm(inputs + self.att(inputs, inputs, attention_mask=mask))


@model
def miniature_gpt():
    inputs = layers.Input(shape=(12,), dtype="int32")
    x = TokenAndPositionEmbedding(12, 50, 16)(inputs)
    x = CausalBlock(16, 2)(x)
    return keras.Model(inputs, [layers.Dense(50)(x), x])


@model
def bidirectional_lstm():
    inputs = keras.Input(shape=(None,), dtype="int32")
    x = layers.Embedding(200, 16)(inputs)
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(8))(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


class Patches(layers.Layer):
    def __init__(self, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def call(self, images):
        shape = ops.shape(images)
        rows, columns = shape[1] // self.patch_size, shape[2] // self.patch_size
        patches = keras.ops.image.extract_patches(images, size=self.patch_size)
        return ops.reshape(patches, (shape[0], rows * columns, self.patch_size * self.patch_size * shape[3]))


class PatchEncoder(layers.Layer):
    def __init__(self, num_patches, dim, **kwargs):
        super().__init__(**kwargs)
        self.num_patches = num_patches
        self.projection = layers.Dense(dim)
        self.position_embedding = layers.Embedding(num_patches, dim)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(0, self.num_patches, step=1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)


@model
def vision_transformer():
    inputs = keras.Input(shape=(24, 24, 3))
    augmented = keras.Sequential(
        [
            layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]),
            layers.Resizing(24, 24),
            layers.RandomFlip("horizontal"),
        ]
    )(inputs)
    x = PatchEncoder(16, 16)(Patches(6)(augmented))
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(x)
        a = layers.MultiHeadAttention(num_heads=2, key_dim=16, dropout=0.1)(x1, x1)
        x2 = layers.Add()([a, x])
        x3 = layers.LayerNormalization(epsilon=1e-6)(x2)
        x3 = layers.Dense(32, activation=keras.activations.gelu)(x3)
        x3 = layers.Dense(16, activation=keras.activations.gelu)(x3)
        x = layers.Add()([x3, x2])
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(x))
    return keras.Model(inputs, layers.Dense(10)(x))


class MLPMixerLayer(layers.Layer):
    def __init__(self, num_patches, hidden_units, dropout_rate, **kwargs):
        super().__init__(**kwargs)
        self.mlp1 = keras.Sequential(
            [layers.Dense(num_patches, activation="gelu"), layers.Dense(num_patches), layers.Dropout(dropout_rate)]
        )
        self.mlp2 = keras.Sequential(
            [layers.Dense(num_patches, activation="gelu"), layers.Dense(hidden_units), layers.Dropout(dropout_rate)]
        )
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        x = self.normalize(inputs)
        x_channels = ops.transpose(x, axes=(0, 2, 1))
        mlp1_outputs = ops.transpose(self.mlp1(x_channels), axes=(0, 2, 1))
        x = mlp1_outputs + inputs
        return x + self.mlp2(self.normalize(x))


class FNetLayer(layers.Layer):
    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.ffn = keras.Sequential([layers.Dense(dim, activation="gelu"), layers.Dense(dim)])
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        real_part = inputs
        im_part = ops.zeros_like(inputs)
        x = ops.fft2((real_part, im_part))[0]
        x = self.normalize1(x + inputs)
        return self.normalize2(x + self.ffn(x))


class GMLPLayer(layers.Layer):
    def __init__(self, num_patches, dim, **kwargs):
        super().__init__(**kwargs)
        self.channel_projection1 = keras.Sequential([layers.Dense(dim * 2, activation="gelu"), layers.Dropout(0.1)])
        self.channel_projection2 = layers.Dense(dim)
        self.spatial_projection = layers.Dense(num_patches, bias_initializer="Ones")
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        x = self.channel_projection1(self.normalize1(inputs))
        u, v = ops.split(x, indices_or_sections=2, axis=2)
        v = self.normalize2(v)
        v = ops.transpose(self.spatial_projection(ops.transpose(v, axes=(0, 2, 1))), axes=(0, 2, 1))
        return inputs + self.channel_projection2(u * v)


@model
def mixers():
    inputs = layers.Input(shape=(24, 24, 3))
    x = layers.Dense(16)(Patches(6)(inputs))
    x = keras.Sequential([MLPMixerLayer(16, 16, 0.1) for _ in range(2)])(x)
    x = keras.Sequential([FNetLayer(16), GMLPLayer(16, 16)])(x)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


@model
def structured_data():
    """Wide and deep: numbers, integer categories, crossed."""
    numbers = {n: keras.Input(shape=(1,), name=n) for n in ("age", "fare")}
    codes = {n: keras.Input(shape=(1,), name=n, dtype="int64") for n in ("sex", "class")}
    encoded = [
        layers.Normalization(mean=3.0, variance=4.0)(numbers["age"]),
        layers.Discretization(bin_boundaries=[0.0, 0.5, 1.0], output_mode="one_hot")(numbers["fare"]),
    ]
    encoded.append(layers.CategoryEncoding(num_tokens=3, output_mode="one_hot")(codes["sex"]))
    encoded.append(layers.IntegerLookup(vocabulary=[2, 3, 5, 7], output_mode="one_hot")(codes["class"]))
    encoded.append(layers.Flatten()(layers.Embedding(9, 4)(codes["class"])))
    wide = layers.BatchNormalization()(layers.Concatenate()(encoded))
    deep = layers.Dropout(0.3)(layers.ReLU()(layers.BatchNormalization()(layers.Dense(16)(wide))))
    return keras.Model({**numbers, **codes}, layers.Dense(2, activation="softmax")(layers.concatenate([wide, deep])))


class GatedLinearUnit(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.linear = layers.Dense(units)
        self.sigmoid = layers.Dense(units, activation="sigmoid")

    def call(self, inputs):
        return self.linear(inputs) * self.sigmoid(inputs)


class GatedResidualNetwork(layers.Layer):
    def __init__(self, units, dropout_rate, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.elu_dense = layers.Dense(units, activation="elu")
        self.linear_dense = layers.Dense(units)
        self.dropout = layers.Dropout(dropout_rate)
        self.gated_linear_unit = GatedLinearUnit(units)
        self.layer_norm = layers.LayerNormalization()
        self.project = layers.Dense(units)

    def call(self, inputs):
        x = self.dropout(self.linear_dense(self.elu_dense(inputs)))
        if inputs.shape[-1] != self.units:
            inputs = self.project(inputs)
        return self.layer_norm(inputs + self.gated_linear_unit(x))


class VariableSelection(layers.Layer):
    def __init__(self, num_features, units, dropout_rate, **kwargs):
        super().__init__(**kwargs)
        self.grns = [GatedResidualNetwork(units, dropout_rate) for _ in range(num_features)]
        self.grn_concat = GatedResidualNetwork(units, dropout_rate)
        self.softmax = layers.Dense(units=num_features, activation="softmax")

    def call(self, inputs):
        v = layers.concatenate(inputs)
        v = ops.expand_dims(self.softmax(self.grn_concat(v)), axis=-1)
        x = ops.stack([grn(i) for grn, i in zip(self.grns, inputs, strict=True)], axis=1)
        return ops.squeeze(ops.matmul(ops.transpose(v, axes=[0, 2, 1]), x), axis=1)


@model
def variable_selection():
    inputs = {f"f{i}": layers.Input(shape=(3 + i,), name=f"f{i}") for i in range(3)}
    x = VariableSelection(3, 8, 0.1)(list(inputs.values()))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


@model
def conv_lstm_frames():
    inp = layers.Input(shape=(None, 16, 16, 1))
    x = layers.ConvLSTM2D(4, (5, 5), padding="same", return_sequences=True, activation="relu")(inp)
    x = layers.BatchNormalization()(x)
    x = layers.ConvLSTM2D(4, (3, 3), padding="same", return_sequences=True, activation="relu")(x)
    return keras.Model(inp, layers.Conv3D(1, (3, 3, 3), activation="sigmoid", padding="same")(x))


class VectorQuantizer(layers.Layer):
    def __init__(self, num_embeddings, embedding_dim, beta=0.25, **kwargs):
        super().__init__(**kwargs)
        self.embedding_dim, self.num_embeddings, self.beta = embedding_dim, num_embeddings, beta
        self.embeddings = self.add_weight(
            shape=(embedding_dim, num_embeddings), initializer="random_uniform", name="embeddings_vqvae"
        )

    def call(self, x):
        input_shape = ops.shape(x)
        flattened = ops.reshape(x, [-1, self.embedding_dim])
        encoding_indices = self.get_code_indices(flattened)
        encodings = ops.one_hot(encoding_indices, self.num_embeddings)
        quantized = ops.reshape(ops.matmul(encodings, ops.transpose(self.embeddings)), input_shape)
        commitment = ops.mean((ops.stop_gradient(quantized) - x) ** 2)
        self.add_loss(self.beta * commitment + ops.mean((quantized - ops.stop_gradient(x)) ** 2))
        return x + ops.stop_gradient(quantized - x)

    def get_code_indices(self, flattened):
        similarity = ops.matmul(flattened, self.embeddings)
        distances = ops.sum(flattened**2, axis=1, keepdims=True) + ops.sum(self.embeddings**2, axis=0) - 2 * similarity
        return ops.argmin(distances, axis=1)


@model
def vq_vae():
    inputs = keras.Input(shape=(28, 28, 1))
    x = layers.Conv2D(8, 3, activation="relu", strides=2, padding="same")(inputs)
    x = layers.Conv2D(16, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2D(6, 1, padding="same")(x)
    x = VectorQuantizer(32, 6, name="vector_quantizer")(x)
    x = layers.Conv2DTranspose(16, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(8, 3, activation="relu", strides=2, padding="same")(x)
    return keras.Model(inputs, layers.Conv2DTranspose(1, 3, padding="same")(x))


class DistanceLayer(layers.Layer):
    def call(self, anchor, positive, negative):
        return ops.sum(ops.square(anchor - positive), -1), ops.sum(ops.square(anchor - negative), -1)


@model
def siamese_triplet():
    base = keras.Sequential(
        [
            keras.Input((20, 20, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(8),
            layers.UnitNormalization(),
        ],
        name="Embedding",
    )
    named = [keras.Input((20, 20, 3), name=n) for n in ("anchor", "positive", "negative")]
    return keras.Model(named, DistanceLayer()(*[base(layers.Rescaling(0.5)(v)) for v in named]))


class OrthogonalRegularizer(keras.regularizers.Regularizer):
    def __init__(self, num_features, l2reg=0.001):
        self.num_features, self.l2reg = num_features, l2reg
        self.eye = ops.eye(num_features)

    def __call__(self, x):
        x = ops.reshape(x, (-1, self.num_features, self.num_features))
        xxt = ops.reshape(ops.tensordot(x, x, axes=(2, 2)), (-1, self.num_features, self.num_features))
        return ops.sum(self.l2reg * ops.square(xxt - self.eye))


def _tnet(inputs, features):
    x = layers.Activation("relu")(
        layers.BatchNormalization(momentum=0.0)(layers.Conv1D(16, kernel_size=1, padding="valid")(inputs))
    )
    x = layers.GlobalMaxPooling1D()(x)
    bias = keras.initializers.Constant([float(i % (features + 1) == 0) for i in range(features * features)])
    x = layers.Dense(
        features * features,
        kernel_initializer="zeros",
        bias_initializer=bias,
        activity_regularizer=OrthogonalRegularizer(features),
    )(x)
    return layers.Dot(axes=(2, 1))([inputs, layers.Reshape((features, features))(x)])


@model
def pointnet():
    inputs = keras.Input(shape=(64, 3))
    x = _tnet(inputs, 3)
    x = layers.Activation("relu")(layers.BatchNormalization(momentum=0.0)(layers.Conv1D(8, 1)(x)))
    x = _tnet(x, 8)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(layers.GlobalMaxPooling1D()(x)))


class CTCLayer(layers.Layer):
    def call(self, y_true, y_pred):
        batch = ops.cast(ops.shape(y_true)[0], dtype="int64")
        inputs = ops.cast(ops.shape(y_pred)[1], dtype="int64") * ops.ones(shape=(batch, 1), dtype="int64")
        labels = ops.cast(ops.shape(y_true)[1], dtype="int64") * ops.ones(shape=(batch, 1), dtype="int64")
        del inputs, labels
        return y_pred


@model
def captcha_ocr():
    images = layers.Input(shape=(40, 16, 1), name="image")
    labels = layers.Input(name="label", shape=(None,), dtype="float32")
    x = layers.Conv2D(8, 3, activation="relu", kernel_initializer="he_normal", padding="same")(images)
    x = layers.MaxPooling2D((2, 2))(x)
    x = layers.Reshape(target_shape=(20, 64))(x)
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True, dropout=0.25))(x)
    x = layers.Dense(12, activation="softmax", name="dense2")(x)
    return keras.Model([images, labels], CTCLayer(name="ctc_loss")(labels, x))


class WindowAttention(layers.Layer):
    def __init__(self, dim, window, heads, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.window, self.heads = dim, window, heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = layers.Dense(dim * 3)
        self.proj = layers.Dense(dim)

    def build(self, input_shape):
        count = (2 * self.window - 1) ** 2
        self.table = self.add_weight(
            shape=(count, self.heads), initializer="random_normal", trainable=True, name="table"
        )
        coords = np.stack(np.meshgrid(np.arange(self.window), np.arange(self.window), indexing="ij")).reshape(2, -1)
        relative = (coords[:, :, None] - coords[:, None, :]).transpose(1, 2, 0) + self.window - 1
        self.index = relative[..., 0] * (2 * self.window - 1) + relative[..., 1]
        super().build(input_shape)

    def call(self, x, mask=None):
        _, size, channels = x.shape
        qkv = ops.reshape(self.qkv(x), (-1, size, 3, self.heads, channels // self.heads))
        qkv = ops.transpose(qkv, (2, 0, 3, 1, 4))
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = (q * self.scale) @ ops.transpose(k, (0, 1, 3, 2))
        bias = ops.reshape(ops.take(self.table, ops.reshape(self.index, (-1,)), axis=0), (size, size, -1))
        attn = attn + ops.expand_dims(ops.transpose(bias, (2, 0, 1)), 0)
        if mask is not None:
            windows = mask.shape[0]
            m = ops.cast(ops.expand_dims(ops.expand_dims(mask, 1), 0), "float32")
            attn = ops.reshape(
                ops.reshape(attn, (-1, windows, self.heads, size, size)) + m, (-1, self.heads, size, size)
            )
        out = ops.transpose(keras.activations.softmax(attn, axis=-1) @ v, (0, 2, 1, 3))
        return self.proj(ops.reshape(out, (-1, size, channels)))


class SwinBlock(layers.Layer):
    def __init__(self, dim, side, window, shift, heads, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.side, self.window, self.shift = dim, side, window, shift
        self.norm1, self.norm2 = layers.LayerNormalization(epsilon=1e-5), layers.LayerNormalization(epsilon=1e-5)
        self.attn = WindowAttention(dim, window, heads)
        self.mlp = keras.Sequential(
            [layers.Dense(dim * 2), layers.Activation("gelu"), layers.Dropout(0.1), layers.Dense(dim)]
        )

    def build(self, shape):
        self.mask = None
        if self.shift:
            ids = np.zeros((1, self.side, self.side, 1))
            parts = (slice(0, -self.window), slice(-self.window, -self.shift), slice(-self.shift, None))
            for n, (r, c) in enumerate((r, c) for r in parts for c in parts):
                ids[:, r, c, :] = n
            n, w = self.side // self.window, self.window
            w = ids.reshape(n, w, n, w).transpose(0, 2, 1, 3).reshape(-1, w * w)
            self.mask = np.where(w[:, None, :] != w[:, :, None], -100.0, 0.0)
        super().build(shape)

    def _partition(self, x, channels):
        n, w = self.side // self.window, self.window
        return ops.reshape(
            ops.transpose(ops.reshape(x, (-1, n, w, n, w, channels)), (0, 1, 3, 2, 4, 5)), (-1, w * w, channels)
        )

    def call(self, x):
        n, w = self.side // self.window, self.window
        skip = x
        x = ops.reshape(self.norm1(x), (-1, self.side, self.side, self.dim))
        x = ops.roll(x, shift=[-self.shift, -self.shift], axis=[1, 2]) if self.shift else x
        x = self.attn(self._partition(x, self.dim), mask=self.mask)
        x = ops.reshape(
            ops.transpose(ops.reshape(x, (-1, n, n, w, w, self.dim)), (0, 1, 3, 2, 4, 5)),
            (-1, self.side, self.side, self.dim),
        )
        x = ops.roll(x, shift=[self.shift, self.shift], axis=[1, 2]) if self.shift else x
        x = skip + ops.reshape(x, (-1, self.side**2, self.dim))
        return x + self.mlp(self.norm2(x))


@model
def swin():
    inputs = layers.Input((16, 16, 3))
    x = layers.Dense(8)(Patches(2)(inputs))
    x = SwinBlock(8, 8, 2, 0, 2)(x)
    x = SwinBlock(8, 8, 2, 1, 2)(x)
    return keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))


def _aspp(x):
    dims = x.shape
    y = layers.AveragePooling2D(pool_size=(dims[-3], dims[-2]))(x)
    y = layers.Conv2D(8, 1, padding="same", use_bias=True)(y)
    pool = layers.UpSampling2D(size=(dims[-3] // y.shape[1], dims[-2] // y.shape[2]), interpolation="bilinear")(y)
    parts = [pool] + [
        layers.Conv2D(8, 3 if d > 1 else 1, dilation_rate=d, padding="same", use_bias=False)(x) for d in (1, 3, 5)
    ]
    return ops.nn.relu(layers.BatchNormalization()(layers.Conv2D(8, 1)(layers.Concatenate(axis=-1)(parts))))


@model
def deeplab():
    inputs = keras.Input(shape=(32, 32, 3))
    low = layers.SeparableConv2D(8, 3, strides=2, padding="same", activation="swish")(
        keras.applications.imagenet_utils.preprocess_input(inputs, mode="tf")
    )
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(low)
    x = _aspp(x)
    a = layers.UpSampling2D(size=(16 // x.shape[1], 16 // x.shape[2]), interpolation="bilinear")(x)
    x = layers.Concatenate(axis=-1)([a, low])
    x = layers.UpSampling2D(size=(32 // x.shape[1], 32 // x.shape[2]), interpolation="bilinear")(x)
    return keras.Model(inputs, layers.Conv2D(4, kernel_size=(1, 1), padding="same")(x))


class WarmUpRNN(keras.Model):
    """Time series: a cell unrolled by hand, its own predictions fed back."""

    def __init__(self, units, out_steps):
        super().__init__()
        self.out_steps = out_steps
        self.lstm_cell = layers.LSTMCell(units)
        self.lstm_rnn = layers.RNN(self.lstm_cell, return_state=True)
        self.dense = layers.Dense(3)

    def call(self, inputs, training=None):
        x, *state = self.lstm_rnn(inputs)
        predictions = [self.dense(x)]
        for _ in range(1, self.out_steps):
            x, state = self.lstm_cell(predictions[-1], states=state, training=training)
            predictions.append(self.dense(x))
        return ops.transpose(ops.stack(predictions), [1, 0, 2])


@model
def feedback_rnn():
    m = WarmUpRNN(8, 4)
    m(keras.random.normal((2, 6, 3)))
    return m


@model
def seq2seq_lstm():
    encoder_inputs = keras.Input(shape=(None, 7), name="encoder")
    _, h, c = layers.LSTM(8, return_state=True)(encoder_inputs)
    decoder_inputs = keras.Input(shape=(None, 5), name="decoder")
    out, _, _ = layers.LSTM(8, return_sequences=True, return_state=True)(decoder_inputs, initial_state=[h, c])
    return keras.Model([encoder_inputs, decoder_inputs], layers.Dense(5, activation="softmax")(out))


@model
def masked_seq2seq():
    source = keras.Input(shape=(None,), dtype="int64", name="source")
    target = keras.Input(shape=(None,), dtype="int64", name="target")
    s = layers.Embedding(40, 8, mask_zero=True)(source)
    s = layers.Bidirectional(layers.GRU(8, return_sequences=True), merge_mode="sum")(s)
    t = layers.Embedding(40, 8, mask_zero=True)(target)
    t = layers.GRU(8, return_sequences=True)(t)
    a, scores = layers.MultiHeadAttention(1, 8)(query=t, value=s, return_attention_scores=True)
    x = layers.LayerNormalization()(layers.Add()([t, a]))
    return keras.Model({"source": source, "target": target}, [layers.Dense(40)(x), scores])


class GraphAttention(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[0][-1], self.units), name="kernel", initializer="glorot_uniform"
        )
        self.kernel_attention = self.add_weight(
            shape=(self.units * 2, 1), name="kernel_attention", initializer="glorot_uniform"
        )
        self.built = True

    def call(self, inputs):
        node_states, edges = inputs
        transformed = ops.matmul(node_states, self.kernel)
        expanded = ops.reshape(ops.take(transformed, edges, axis=0), (ops.shape(edges)[0], -1))
        scores = ops.squeeze(ops.leaky_relu(ops.matmul(expanded, self.kernel_attention)), -1)
        scores = ops.exp(ops.clip(scores, -2, 2))
        sums = ops.segment_sum(scores, edges[:, 0], num_segments=7)
        scores = scores / ops.take(sums, edges[:, 0], axis=0)
        gathered = ops.take(transformed, edges[:, 1], axis=0)
        return ops.segment_sum(gathered * scores[:, None], edges[:, 0], num_segments=7)


@model
def graph_attention():
    nodes = keras.Input(batch_shape=(7, 5), name="nodes")
    edges = keras.Input(batch_shape=(None, 2), dtype="int32", name="edges")
    return keras.Model([nodes, edges], layers.Dense(3)(ops.relu(GraphAttention(6)([nodes, edges]))))


@model
def attention_unet():
    inputs = keras.Input((32, 32, 1))
    c1 = layers.Conv2D(8, 3, activation="relu", padding="same")(inputs)
    c2 = layers.Conv2D(16, 3, activation="relu", padding="same")(layers.MaxPooling2D()(c1))
    g = layers.Conv2DTranspose(8, 2, strides=2, padding="same")(layers.SpatialDropout2D(0.2)(c2))
    gate = layers.Activation("sigmoid")(
        layers.Conv2D(1, 1)(layers.Activation("relu")(layers.Add()([layers.Conv2D(4, 1)(c1), layers.Conv2D(4, 1)(g)])))
    )
    x = layers.Concatenate()([layers.Multiply()([c1, gate]), g])
    x = layers.GroupNormalization(4)(layers.Conv2D(8, 3, padding="same")(x))
    return keras.Model(
        inputs, layers.Conv2D(1, 1, activation="sigmoid")(layers.Lambda(lambda t: ops.nn.silu(t) * 2.0)(x))
    )


class Sampling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs, training=None):
        z_mean, z_log_var = inputs
        if not training:
            return z_mean
        shape = ops.shape(z_mean)
        return z_mean + ops.exp(0.5 * z_log_var) * keras.random.normal(shape=shape, seed=self.seed_generator)


@model
def vae():
    inputs = keras.Input(shape=(28, 28, 1))
    x = layers.Conv2D(8, 3, activation="relu", strides=2, padding="same")(inputs)
    x = layers.Flatten()(x)
    mean, log_var = layers.Dense(2, name="z_mean")(x), layers.Dense(2, name="z_log_var")(x)
    z = Sampling()([mean, log_var])
    x = layers.Reshape((7, 7, 4))(layers.Dense(7 * 7 * 4, activation="relu")(z))
    x = layers.Conv2DTranspose(4, 3, activation="relu", strides=2, padding="same")(x)
    return keras.Model(
        inputs, [layers.Conv2DTranspose(1, 3, activation="sigmoid", strides=2, padding="same")(x), mean, log_var]
    )


class Switch(layers.Layer):
    """Switch transformer's router: each token to one expert, by a one-hot dispatch of fixed capacity."""

    def __init__(self, experts, dim, capacity, **kwargs):
        super().__init__(**kwargs)
        self.experts, self.capacity, self.dim = experts, capacity, dim
        self.route = layers.Dense(experts)
        self.ffn = [layers.Dense(dim, activation="relu") for _ in range(experts)]

    def call(self, inputs):
        x = ops.reshape(inputs, [-1, self.dim])
        probs = keras.activations.softmax(self.route(x), axis=-1)
        gate, index = ops.top_k(probs, k=1)
        mask = ops.one_hot(index[:, 0], self.experts)
        position = ops.cumsum(mask, axis=0) * mask
        mask = mask * ops.cast(position <= self.capacity, mask.dtype)
        gate = gate[:, 0] * ops.sum(mask, axis=-1)
        outs = ops.stack([f(x) for f in self.ffn], axis=1)
        return ops.reshape(ops.einsum("te,ted->td", mask, outs) * gate[:, None], ops.shape(inputs))


@model
def switch_transformer():
    inputs = layers.Input(shape=(10,), dtype="int32")
    x = layers.Embedding(30, 8)(inputs)
    x = layers.LayerNormalization()(x + Switch(4, 8, 3)(x))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))


@model
def wavenet():
    inputs = keras.Input(shape=(None, 2))
    x, skips = layers.Conv1D(8, 1)(inputs), []
    for rate in (1, 2, 4):
        a = layers.Conv1D(8, 2, dilation_rate=rate, padding="causal", activation="tanh")(x)
        b = layers.Conv1D(8, 2, dilation_rate=rate, padding="causal", activation="sigmoid")(x)
        z = layers.multiply([a, b])
        s = layers.Conv1D(8, 1)(z)
        skips.append(s)
        x = layers.add([x, s])
    return keras.Model(inputs, layers.Conv1D(4, 1)(layers.ReLU()(layers.add(skips))))


@model
def nerf():
    inputs = keras.Input(shape=(32, 9))
    x = inputs
    for i in range(5):
        x = layers.Dense(16, activation="relu")(x)
        if i % 2 == 0 and i > 0:
            x = layers.concatenate([x, inputs], axis=-1)
    raw = layers.Dense(4)(x)
    rgb, sigma = ops.sigmoid(raw[..., :-1]), ops.relu(raw[..., -1])
    t = ops.linspace(2.0, 6.0, 32)
    delta = ops.concatenate([t[1:] - t[:-1], ops.array([1e10])])
    alpha = 1.0 - ops.exp(-sigma * delta)
    transmittance = ops.cumprod(
        ops.concatenate([ops.ones_like(alpha[:, :1]), 1.0 - alpha[:, :-1] + 1e-10], -1), axis=-1
    )
    weights = alpha * transmittance
    return keras.Model(inputs, [ops.sum(weights[..., None] * rgb, axis=-2), ops.sum(weights * t, axis=-1)])


class Recommender(keras.Model):
    def __init__(self, users, items, size, **kwargs):
        super().__init__(**kwargs)
        self.user_embedding = layers.Embedding(users, size, embeddings_regularizer=keras.regularizers.l2(1e-6))
        self.user_bias = layers.Embedding(users, 1)
        self.item_embedding = layers.Embedding(items, size, embeddings_regularizer=keras.regularizers.l2(1e-6))
        self.item_bias = layers.Embedding(items, 1)

    def call(self, inputs):
        user = self.user_embedding(inputs[:, 0])
        item = self.item_embedding(inputs[:, 1])
        dot = ops.tensordot(user, item, 2)
        return ops.nn.sigmoid(dot + self.user_bias(inputs[:, 0]) + self.item_bias(inputs[:, 1]))


@model
def recommender():
    m = Recommender(20, 30, 4)
    m(ops.array([[1, 2], [3, 4]], "int32"))
    return m


@model
def retina_head():
    """Detection: two heads on three levels, boxes decoded against anchors, sigmoid scores, top k."""
    inputs = keras.Input((32, 32, 3))
    c3 = layers.Conv2D(8, 3, strides=4, padding="same", activation="relu")(inputs)
    c4 = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(c3)
    p4 = layers.Conv2D(8, 1)(c4)
    p3 = layers.UpSampling2D(2)(p4) + layers.Conv2D(8, 1)(c3)
    classes = keras.Sequential(
        [
            keras.Input((None, None, 8)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.Conv2D(6, 3, padding="same"),
        ]
    )
    boxes = keras.Sequential(
        [
            keras.Input((None, None, 8)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.Conv2D(8, 3, padding="same"),
        ]
    )
    scores = layers.Concatenate(axis=1)([layers.Reshape((-1, 3))(classes(p)) for p in (p3, p4)])
    deltas = layers.Concatenate(axis=1)([layers.Reshape((-1, 4))(boxes(p)) for p in (p3, p4)])
    best, index = ops.top_k(ops.max(ops.sigmoid(scores), axis=-1), 5)
    return keras.Model(inputs, {"boxes": ops.take_along_axis(deltas, index[..., None], axis=1), "scores": best})


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_example(name):
    assert max(errors(name).values()) <= 2e-5


def errors(name: str) -> dict[str, float]:
    """Target -> the largest error of an output against Keras itself, at another batch than the check of the conversion."""
    keras.utils.set_random_seed(1)
    live = randomise(MODELS[name](), spread=0.2)
    read = dlbridge.load(live)
    data = random_inputs(read, {"batch": 3})
    wanted = outputs_of(live, list(data.values()), list(data))
    found = {}
    for target in TARGETS:
        framework = frameworks.get(target)
        got = framework.run(framework.load(dlbridge.convert(live, target)), data).values()
        found[target] = max(relative_error(g, w) for g, w in zip(got, wanted, strict=True))
    return found


if __name__ == "__main__":
    for name in sys.argv[1:] or MODELS:
        print(f"{name:24}", "  ".join(f"{target} {error:.1e}" for target, error in errors(name).items()), flush=True)
