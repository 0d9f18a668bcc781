"""Masks as Keras passes, drops and takes off them: through layers, code and nested models, against Keras itself."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops
from keras.src.backend import get_keras_mask, set_keras_mask

from dlbridge import frameworks
from tests.helpers.keras_reading import errors, inputs_of, randomise

read = frameworks.get("keras").read


class Embed(L.Layer):
    """Hands on the mask of the embedding in it, by setting it on its result."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.token = L.Embedding(20, 8, mask_zero=True)
        self.supports_masking = True

    def call(self, x):
        tokens = self.token(x)
        scaled = tokens * 1.5
        set_keras_mask(scaled, get_keras_mask(tokens))
        return scaled


class Marks(L.Layer):
    """Sets a mask on what it returns without any before."""

    def call(self, x):
        y = ops.exp(x)
        y._keras_mask = ops.greater(x[..., 0], 0.0)
        return y


class Encoder(L.Layer):
    """Attention in code: the mask is gone where the sum is taken."""

    def __init__(self, drop=False, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.norm = L.MultiHeadAttention(2, 4), L.LayerNormalization()
        self.drop = L.Dropout(0.1) if drop else None
        self.supports_masking = True

    def call(self, x):
        own = x if self.drop is None else self.drop(x)
        return self.norm(x + self.heads(own, own))


class Holder(L.Layer):
    """Layers that set masks, held by a layer, and one that asks for a mask after them."""

    def __init__(self, *inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = list(inner)
        self.memory = L.LSTM(3)

    def call(self, x):
        for layer in self.inner:
            x = layer(x)
        return self.memory(x)


class Asks(L.Layer):
    """Code that asks for the mask of its input."""

    def call(self, x, mask=None):
        return x if mask is None else ops.where(mask[..., None], x, -1.0)


class Computes(L.Layer):
    """A mask computed from the input and the mask before."""

    def call(self, x):
        return x * 2.0

    def compute_mask(self, inputs, previous_mask=None):
        large = ops.greater(ops.sum(inputs, axis=-1), 0.0)
        return large if previous_mask is None else ops.logical_and(large, previous_mask)


def _computes():
    layer = Computes()
    layer.supports_masking = True
    return layer


def _inner(*kinds):
    x = keras.Input((None, 8))
    y = x
    for kind in kinds:
        y = kind(y)
    return keras.Model(x, y)


def _residual(e):
    return L.LSTM(3)(L.Add()([e, L.MultiHeadAttention(2, 4)(e, e)]))


def _through_dropout(e):
    d = L.Dropout(0.1)(e)
    return L.GlobalAveragePooling1D()(L.Add()([e, L.MultiHeadAttention(2, 4)(d, d)]))


def _key_alone(e):
    x = L.Dense(8)(e)
    return L.MultiHeadAttention(2, 4)(L.Conv1D(8, 1)(e), L.Conv1D(8, 1)(e), x)


TOKENS = {
    "heads, the sum has no mask": lambda e: [_residual(e), L.GRU(3)(e)],
    "heads twice": lambda e: L.MultiHeadAttention(2, 4)(L.MultiHeadAttention(2, 4)(e, e), e),
    "siblings": lambda e: [L.MultiHeadAttention(2, 4)(e, e), L.MultiHeadAttention(2, 4)(e, e)],
    "the same tensor by way of dropout": _through_dropout,
    "identity and linear activation": lambda e: [
        L.MultiHeadAttention(2, 4)(L.Identity()(e), L.Activation("linear")(e)),
        L.GlobalAveragePooling1D()(e),
    ],
    "an activation makes another tensor": lambda e: [
        L.MultiHeadAttention(2, 4)(L.Activation("relu")(e), e),
        L.GlobalAveragePooling1D()(e),
    ],
    "value alone masked": lambda e: L.MultiHeadAttention(2, 4)(L.Conv1D(8, 1)(e), e),
    "query alone masked": lambda e: L.MultiHeadAttention(2, 4)(e, L.Conv1D(8, 1)(e)),
    "key alone masked": _key_alone,
    "all three, causal": lambda e: L.MultiHeadAttention(2, 4)(e, L.Dense(8)(e), L.Dense(8)(e), use_causal_mask=True),
    "groups, then the memory": lambda e: [L.GroupQueryAttention(4, 4, 2)(e, e), L.LSTM(3)(e)],
    "one of two states drops the mask": lambda e: L.LSTM(8, return_sequences=True)(
        e, initial_state=[L.Dense(8)(e[:, 0]), L.Dense(8)(e[:, 1])]
    ),
    "products": lambda e: L.Multiply()([e, L.Dense(8)(e)]),
    "products, one masked": lambda e: L.Multiply()([e, L.Conv1D(8, 1)(e)]),
    "products, the mask goes on": lambda e: L.LSTM(3)(L.Multiply()([e, L.Dense(8)(e)])),
    "largest": lambda e: L.Maximum()([e, L.Conv1D(8, 1)(e), L.Dense(8)(e)]),
    "smallest": lambda e: L.Minimum()([L.Conv1D(8, 1)(e), e]),
    "joined with what has none": lambda e: L.LSTM(3)(L.Concatenate(axis=1)([e, L.Conv1D(8, 1)(e)])),
    "joined along the last axis": lambda e: L.LSTM(3)(L.Concatenate()([e, L.Dense(4)(e)])),
    "averaged": lambda e: L.LSTM(3)(L.Average()([e, L.Dense(8)(e)])),
    "subtracted from what has none": lambda e: L.LSTM(3)(L.Subtract()([L.Conv1D(8, 1)(e), e])),
    "both ways, concatenated and summed": lambda e: [
        L.GRU(3)(L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode=m)(e)) for m in ("concat", "sum")
    ],
    "at each step": lambda e: L.LSTM(3)(L.TimeDistributed(L.Dense(4))(e)),
    "masked again": lambda e: L.LSTM(3)(L.Masking()(L.ReLU()(e))),
    "dropped by operations": lambda e: L.LSTM(3)(e * 2.0),
    "reshaped": lambda e: L.LSTM(3)(L.Reshape((-1, 4))(e)),
    "pooled": lambda e: L.LSTM(3)(L.MaxPooling1D(1)(e)),
    "repeated": lambda e: L.LSTM(3)(L.RepeatVector(3)(L.LSTM(4)(e))),
    "softmax": lambda e: L.Softmax(axis=1)(ops.squeeze(L.Dense(1)(e), -1), mask=ops.not_equal(e[..., 0], 0.0)),
    "code that asks": lambda e: Asks()(e),
    "code that asks, after code that drops": lambda e: Asks()(Asks()(e)),
    "code that computes": lambda e: L.LSTM(3)(_computes()(e)),
    "code that takes it off": lambda e: [Encoder()(e), L.GlobalAveragePooling1D()(e)],
    "code that takes it off, by way of dropout": lambda e: [Encoder(drop=True)(e), L.GlobalAveragePooling1D()(e)],
    "code after code": lambda e: L.LSTM(3)(Encoder()(Encoder()(e))),
    "code in code": lambda e: Holder(Encoder(), Encoder())(e),
    "code in code that computes": lambda e: Holder(_computes())(e),
    "a model": lambda e: L.LSTM(3)(_inner(L.Dense(8), L.ReLU())(e)),
    "a model that drops it": lambda e: L.LSTM(3)(_inner(L.Conv1D(8, 1))(e)),
    "a model that takes it off": lambda e: [
        _inner(lambda x: L.MultiHeadAttention(2, 4)(x, x))(e),
        L.GlobalAveragePooling1D()(e),
    ],
    "a model in code": lambda e: Holder(_inner(L.Dense(8), _computes()))(e),
}


def _tokens(function):
    keras.utils.set_random_seed(0)
    x = keras.Input((7,), dtype="int32", name="x")
    return randomise(keras.Model(x, function(L.Embedding(20, 8, mask_zero=True)(x))))


def _data():
    data = np.random.default_rng(3).integers(1, 20, (3, 7)).astype("int32")
    data[0, :3] = 0
    data[1, 4:] = 0
    return {"x": data}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TOKENS)
def test_masks_of_an_embedding(name):
    assert errors(_tokens(TOKENS[name]), data=_data())["onnx"] <= 3e-6


OTHERS = {
    "set in call": lambda x: L.GlobalAveragePooling1D()(Embed()(x)),
    "set in call, in code": lambda x: Holder(Embed())(x),
    "set in call, in a model": lambda x: L.LSTM(3)(keras.Sequential([keras.Input((7,)), Embed()])(x)),
    "set in call, then code": lambda x: L.LSTM(3)(Encoder()(Embed()(x))),
    "an embedding in code": lambda x: Holder(L.Embedding(20, 8, mask_zero=True), Encoder())(x),
    "an embedding in a model in code": lambda x: Holder(
        keras.Sequential([keras.Input((7,)), L.Embedding(20, 8, mask_zero=True)])
    )(x),
    "reversible": lambda x: L.LSTM(3)(L.ReversibleEmbedding(20, 8, mask_zero=True)(x)),
    "reversible, in code": lambda x: Holder(L.ReversibleEmbedding(20, 8, mask_zero=True))(x),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OTHERS)
def test_masks_that_code_makes(name):
    keras.utils.set_random_seed(0)
    x = keras.Input((7,), dtype="int32", name="x")
    assert errors(randomise(keras.Model(x, OTHERS[name](x))), data=_data())["onnx"] <= 3e-6


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layer", [lambda: L.LSTM(3), lambda: Holder(Marks()), lambda: Holder(L.Masking(0.0))])
def test_a_mask_that_is_set_as_an_attribute(layer):
    x = keras.Input((5, 4), name="x")
    model = randomise(keras.Model(x, layer()(Marks()(x))))
    data = inputs_of(read(model))
    data["x"][:, 3:] = 0
    assert errors(model, data=data)["onnx"] <= 3e-6


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", [L.MultiHeadAttention, L.GroupQueryAttention])
def test_a_row_that_may_attend_to_nothing(kind, dropout):
    """It is uniform in a layer without dropout, and zeros in one with it, which computes by a ``Softmax`` layer."""
    x, mask = keras.Input((5, 8)), keras.Input((5,), dtype="int32")
    options = {"num_heads": 2} if kind is L.MultiHeadAttention else {"num_query_heads": 4}
    options |= {"key_dim": 4} if kind is L.MultiHeadAttention else {"head_dim": 4, "num_key_value_heads": 2}
    y = kind(dropout=dropout, **options)(x, x, attention_mask=mask[:, None, :], use_causal_mask=True)
    network = keras.Model([x, mask], y)
    given = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    masks = np.array([[0, 0, 0, 0, 0], [0, 1, 1, 0, 1]], "int32")
    made = frameworks.get("keras").load(read(network).write("keras"))
    np.testing.assert_allclose(made([given, masks]), network([given, masks]), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_masked_attention_in_half_precision(policy):
    x = keras.Input((6,), dtype="int32", name="x")
    tokens = L.Embedding(5, 8, mask_zero=True, dtype=policy)(x)
    y = L.MultiHeadAttention(2, 4, dtype=policy)(tokens, tokens)
    model = randomise(keras.Model(x, L.Activation("linear", dtype="float32")(y)))
    assert errors(model, to=("keras",))["keras"] <= 1e-2  # onnxruntime has no kernels of bfloat16 here
