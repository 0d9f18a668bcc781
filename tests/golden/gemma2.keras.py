import keras
from keras import layers, ops


def attention(q, k, v, bias, groups, softcap):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    k, v = (ops.repeat(x, groups, axis=1) for x in (k, v))
    root = (q.shape[-1] ** -0.5) ** 0.5
    scores = ops.matmul(q * root, ops.swapaxes(k, -1, -2) * root)
    scores = softcap * ops.tanh(scores / softcap)
    scores = bias + scores
    return ops.matmul(masked_softmax(scores), v)


def masked_softmax(scores):
    """Softmax over the last axis, in which rows of -inf alone become 0."""
    hidden = ops.equal(ops.max(scores, axis=-1, keepdims=True), float("-inf"))
    return ops.where(hidden, 0.0, ops.softmax(ops.where(hidden, 0.0, scores)))


def visible_keys(x, padding, window=None, axis=1):
    """Which keys each query sees: those that are there, up to its own place."""
    queries = ops.shape(x)[axis]
    keys = ops.shape(padding)[1]
    places = ops.arange(keys, dtype="int32")
    own = ops.expand_dims(ops.arange(queries, dtype="int32") + (keys - queries), 1)
    seen = places <= own
    if window is not None:  # the last ones alone
        seen = ops.logical_and(seen, places > own - window)
    return ops.logical_and(seen, padding[:, None, None])


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


def without_padding(rows, indices, padding):
    """Rows of a table that were looked up; the row of the padding gets no gradient."""
    is_padding = ops.expand_dims(ops.equal(indices, padding), -1)
    return ops.where(is_padding, ops.stop_gradient(rows), rows)


def rms_norm(x, scale, axes, epsilon):
    """x over its root mean square."""
    return scale * (x * ops.rsqrt(ops.mean(ops.square(x), axis=axes, keepdims=True) + epsilon))


@keras.saving.register_keras_serializable("dlbridge")
class Weight(layers.Layer):
    """A free weight; called with any tensor of the model, which only says where it stands."""

    def __init__(self, shape, dtype=None, trainable=True, **kwargs):
        super().__init__(trainable=trainable, **kwargs)  # without the dtype: "int8" as a policy means quantisation
        self.shape, self.kind = tuple(shape), dtype or self.dtype
        self.value = self.add_weight(name="value", shape=self.shape, trainable=trainable, dtype=self.kind)

    def call(self, x):
        return ops.convert_to_tensor(self.value)

    def compute_output_spec(self, x):
        return keras.KerasTensor(self.shape, dtype=self.kind)

    def get_config(self):
        return {**super().get_config(), "shape": self.shape, "dtype": self.kind, "trainable": self.trainable}


@keras.saving.register_keras_serializable()
class Gemma2TextScaledWordEmbedding(layers.Layer):
    def call(self, input_ids, weight):
        return without_padding(ops.take(weight, input_ids, axis=0), input_ids, 0) * 8.0


@keras.saving.register_keras_serializable()
class Gemma2RotaryEmbedding(layers.Layer):
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
class Gemma2RMSNorm(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.weight = self.add_weight(name="weight", shape=(64,))

    def call(self, x):
        return rms_norm(x, ops.full((64,), 1.0, dtype="float32"), [2], 1e-06) * (self.weight + 1.0)


@keras.saving.register_keras_serializable()
class Gemma2Attention(layers.Layer):
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
        attn_output = attention(
            query_states, key_states, value_states, bias=attention_mask, groups=2, softcap=50.0
        )
        return self.o_proj(merge_heads(attn_output))


@keras.saving.register_keras_serializable()
class GELUTanh(layers.Layer):
    def call(self, x):
        return ops.gelu(x, approximate=True)


@keras.saving.register_keras_serializable()
class Gemma2MLP(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.gate_proj = layers.Dense(96, use_bias=False, name="gate_proj")
        self.act_fn = GELUTanh(name="act_fn")
        self.up_proj = layers.Dense(96, use_bias=False, name="up_proj")
        self.down_proj = layers.Dense(64, use_bias=False, name="down_proj")

    def call(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


@keras.saving.register_keras_serializable()
class Gemma2DecoderLayer(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.input_layernorm = Gemma2RMSNorm(name="input_layernorm")
        self.self_attn = Gemma2Attention(name="self_attn")
        self.post_attention_layernorm = Gemma2RMSNorm(name="post_attention_layernorm")
        self.pre_feedforward_layernorm = Gemma2RMSNorm(name="pre_feedforward_layernorm")
        self.mlp = Gemma2MLP(name="mlp")
        self.post_feedforward_layernorm = Gemma2RMSNorm(name="post_feedforward_layernorm")

    def call(self, hidden_states, cos, sin, attention_mask):
        attn_output = self.self_attn(self.input_layernorm(hidden_states), cos, sin, attention_mask)
        hidden_states = hidden_states + self.post_attention_layernorm(attn_output)
        down_proj = self.mlp(self.pre_feedforward_layernorm(hidden_states))
        return hidden_states + self.post_feedforward_layernorm(down_proj)


@keras.saving.register_keras_serializable()
class Gemma2Model(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embed_tokens = Gemma2TextScaledWordEmbedding(name="embed_tokens")
        self.rotary_emb = Gemma2RotaryEmbedding(name="rotary_emb")
        self.layers = [Gemma2DecoderLayer(name=f"layers-{i}") for i in range(3)]
        self.norm = Gemma2RMSNorm(name="norm")

    def call(self, input_ids, attention_mask, weight):
        inputs_embeds = self.embed_tokens(input_ids, weight)
        position_ids = ops.expand_dims(ops.arange(ops.shape(input_ids)[1], dtype="int64"), axis=0)
        attention_mask_1 = ops.cast(attention_mask, "bool")
        causal_mask = ops.where(
            visible_keys(input_ids, attention_mask_1),
            ops.array(0.0, dtype="float32"),
            ops.array(-3.4028234663852886e+38, dtype="float32"),
        )
        attention_mask = visible_keys(attention_mask_1, ops.cast(attention_mask, "bool"), window=4)
        causal_mask_1 = ops.where(
            attention_mask,
            ops.array(0.0, dtype="float32"),
            ops.array(-3.4028234663852886e+38, dtype="float32"),
        )
        cos, sin = self.rotary_emb(position_ids)
        hidden_states = self.layers[0](inputs_embeds, cos, sin, causal_mask_1)
        hidden_states = self.layers[1](hidden_states, cos, sin, causal_mask)
        hidden_states = self.layers[2](hidden_states, cos, sin, causal_mask_1)
        return self.norm(hidden_states)


def build_model():
    input_ids = keras.Input((None,), dtype="int64", name="input_ids")
    attention_mask = keras.Input((None,), dtype="int64", name="attention_mask")
    x = Weight((128, 64), name="model_embed_tokens_weight")(input_ids)
    outputs = Gemma2Model(name="model")(input_ids, attention_mask, x)
    logits = ops.matmul(outputs, ops.transpose(x))
    logits = logits / 30.0
    logits = layers.Activation("tanh")(logits)
    logits = logits * 30.0
    return keras.Model([input_ids, attention_mask], logits, name="gemma2forcausallm")
