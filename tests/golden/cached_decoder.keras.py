import keras
from keras import layers, ops


def attention(q, k, v, mask):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    root = (q.shape[-1] ** -0.5) ** 0.5
    scores = ops.matmul(q * root, ops.swapaxes(k, -1, -2) * root)
    scores = ops.where(mask, scores, float("-inf"))
    weights = masked_softmax(scores)
    return ops.matmul(weights, v)


def masked_softmax(scores):
    """Softmax over the last axis, in which rows of -inf alone become 0."""
    hidden = ops.equal(ops.max(scores, axis=-1, keepdims=True), float("-inf"))
    return ops.where(hidden, 0.0, ops.softmax(ops.where(hidden, 0.0, scores)))


def split_heads(x, heads):
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    x = layers.Reshape((-1, heads, x.shape[-1] // heads), dtype=x.dtype)(x)
    return ops.transpose(x, (0, 2, 1, 3))


def merge_heads(x):
    """(batch, heads, time, size) -> (batch, time, heads * size)."""
    x = ops.transpose(x, (0, 2, 1, 3))
    return layers.Reshape((-1, x.shape[-2] * x.shape[-1]), dtype=x.dtype)(x)


@keras.saving.register_keras_serializable()
class CachedAttention(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.query = layers.Dense(16, use_bias=False, name="query")
        self.key = layers.Dense(16, use_bias=False, name="key")
        self.value = layers.Dense(16, use_bias=False, name="value")
        self.out = layers.Dense(16, use_bias=False, name="out")

    def call(self, x, keys, values):
        query = split_heads(self.query(x), 2)
        keys = ops.concatenate([keys, split_heads(self.key(x), 2)], axis=2)
        values_1 = split_heads(self.value(x), 2)
        values = ops.concatenate([values, values_1], axis=2)
        places = ops.arange(ops.shape(values)[2], dtype="int64")
        mask = places[-ops.shape(values_1)[2]:, ...]
        mask = places <= ops.expand_dims(mask, axis=1)
        x = self.out(merge_heads(attention(query, keys, values, mask)))
        return keys, values, x


def decoder_block(x, keys, values, name):
    norm = layers.RMSNormalization(name=f"{name}-norm1")(x)
    keys, values, y = CachedAttention(name=f"{name}-attention")(norm, keys, values)
    x = x + y
    y = layers.RMSNormalization(name=f"{name}-norm2")(x)
    gate = layers.Dense(48, activation="silu", use_bias=False, name=f"{name}-gate")(y)
    up = layers.Dense(48, use_bias=False, name=f"{name}-up")(y)
    gate = gate * up
    down = layers.Dense(16, use_bias=False, name=f"{name}-down")(gate)
    x = x + down
    return keys, values, x


def build_model():
    tokens = keras.Input((None,), dtype="int64", name="tokens")
    cache_0 = keras.Input((2, None, 8), name="cache.0")
    cache_1 = keras.Input((2, None, 8), name="cache.1")
    cache_2 = keras.Input((2, None, 8), name="cache.2")
    cache_3 = keras.Input((2, None, 8), name="cache.3")
    x = layers.Embedding(30, 16, name="embedding")(tokens)
    output_1_0, output_1_1, x = decoder_block(x, cache_0, cache_1, name="blocks-0")
    output_1_2, output_1_3, x = decoder_block(x, cache_2, cache_3, name="blocks-1")
    x = layers.RMSNormalization(name="norm")(x)
    x = layers.Dense(30, use_bias=False, name="head")(x)
    return keras.Model(
        [tokens, cache_0, cache_1, cache_2, cache_3],
        [x, output_1_0, output_1_1, output_1_2, output_1_3],
        name="cacheddecoder",
    )
