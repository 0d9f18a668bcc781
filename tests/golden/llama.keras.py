import keras
from keras import layers, ops


def attention(q, k, v, mask, groups):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    k, v = (ops.repeat(x, groups, axis=1) for x in (k, v))
    root = (q.shape[-1] ** -0.5) ** 0.5
    scores = ops.matmul(q * root, ops.swapaxes(k, -1, -2) * root)
    scores = ops.where(mask, scores, float("-inf"))
    weights = masked_softmax(scores)
    return ops.matmul(weights, v)


def masked_softmax(scores):
    """Softmax over the last axis, in which rows of -inf alone become 0."""
    hidden = ops.equal(ops.max(scores, axis=-1, keepdims=True), float("-inf"))
    return ops.where(hidden, 0.0, ops.softmax(ops.where(hidden, 0.0, scores)))


def visible_keys(x, padding, axis=1):
    """Which keys each query sees: those that are there, up to its own place."""
    queries = ops.shape(x)[axis]
    keys = ops.shape(padding)[1]
    places = ops.arange(keys, dtype="int32")
    own = ops.expand_dims(ops.arange(queries, dtype="int32") + (keys - queries), 1)
    return ops.logical_and(places <= own, padding[:, None, None])


def rotate_halves(x, cos, sin):
    """Rotary embedding: turns pairs of features, one from each half of x, by angles of these cosines and sines."""
    a, b = ops.split(x, 2, axis=-1)
    return x * cos + ops.concatenate([-b, a], axis=-1) * sin


def split_heads(x, heads):
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    x = layers.Reshape((-1, heads, x.shape[-1] // heads), dtype=x.dtype)(x)
    return ops.transpose(x, (0, 2, 1, 3))


def merge_heads(x):
    """(batch, heads, time, size) -> (batch, time, heads * size)."""
    x = ops.transpose(x, (0, 2, 1, 3))
    return layers.Reshape((-1, x.shape[-2] * x.shape[-1]), dtype=x.dtype)(x)


@keras.saving.register_keras_serializable()
class LlamaRotaryEmbedding(layers.Layer):
    def call(self, position_ids):
        freqs = ops.cast(ops.expand_dims(position_ids, axis=2), "float32") * ops.array(
            [1.0, 0.31622776, 0.1, 0.03162278, 0.01, 0.0031622779, 0.001, 0.0003162278],
            dtype="float32",
        )
        emb = ops.concatenate([freqs, freqs], axis=2)
        cos = ops.cos(emb)
        sin = ops.sin(emb)
        return cos, sin


@keras.saving.register_keras_serializable()
class LlamaAttention(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.q_proj = layers.Dense(64, use_bias=False, name="q_proj")
        self.k_proj = layers.Dense(32, use_bias=False, name="k_proj")
        self.v_proj = layers.Dense(32, use_bias=False, name="v_proj")
        self.o_proj = layers.Dense(64, use_bias=False, name="o_proj")

    def call(self, hidden_states, cos, sin, attention_mask):
        query_states = split_heads(self.q_proj(hidden_states), 4)
        key_states = split_heads(self.k_proj(hidden_states), 2)
        value_states = split_heads(self.v_proj(hidden_states), 2)
        cos = ops.expand_dims(cos, axis=1)
        sin = ops.expand_dims(sin, axis=1)
        query_states = rotate_halves(query_states, cos, sin)
        key_states = rotate_halves(key_states, cos, sin)
        attn_output = attention(query_states, key_states, value_states, attention_mask, groups=2)
        return self.o_proj(merge_heads(attn_output))


@keras.saving.register_keras_serializable()
class LlamaMLP(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.gate_proj = layers.Dense(96, activation="silu", use_bias=False, name="gate_proj")
        self.up_proj = layers.Dense(96, use_bias=False, name="up_proj")
        self.down_proj = layers.Dense(64, use_bias=False, name="down_proj")

    def call(self, x):
        return self.down_proj(self.gate_proj(x) * self.up_proj(x))


@keras.saving.register_keras_serializable()
class LlamaDecoderLayer(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.input_layernorm = layers.RMSNormalization(name="input_layernorm")
        self.self_attn = LlamaAttention(name="self_attn")
        self.post_attention_layernorm = layers.RMSNormalization(name="post_attention_layernorm")
        self.mlp = LlamaMLP(name="mlp")

    def call(self, hidden_states, cos, sin, attention_mask):
        attn_output = self.self_attn(self.input_layernorm(hidden_states), cos, sin, attention_mask)
        hidden_states = hidden_states + attn_output
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


@keras.saving.register_keras_serializable()
class LlamaModel(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embed_tokens = layers.Embedding(128, 64, name="embed_tokens")
        self.rotary_emb = LlamaRotaryEmbedding(name="rotary_emb")
        self.layers = [LlamaDecoderLayer(name=f"layers-{i}") for i in range(3)]
        self.norm = layers.RMSNormalization(name="norm")

    def call(self, input_ids, attention_mask):
        hidden_states = self.embed_tokens(input_ids)
        position_ids = ops.arange(ops.shape(hidden_states)[1], dtype="int64")
        position_ids = ops.expand_dims(position_ids, axis=0)
        attention_mask = visible_keys(hidden_states, ops.cast(attention_mask, "bool"))
        cos, sin = self.rotary_emb(position_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states, cos, sin, attention_mask)
        return self.norm(hidden_states)


def build_model():
    input_ids = keras.Input((None,), dtype="int64", name="input_ids")
    attention_mask = keras.Input((None,), dtype="int64", name="attention_mask")
    hidden_states = LlamaModel(name="model")(input_ids, attention_mask)
    logits = layers.Dense(128, use_bias=False, name="lm_head")(hidden_states)
    return keras.Model([input_ids, attention_mask], logits, name="llamaforcausallm")
