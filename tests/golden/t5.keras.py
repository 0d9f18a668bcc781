import math

import keras
from keras import layers, ops


def attention(q, k, v, bias, scale):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    root = scale ** 0.5
    scores = ops.matmul(q * root, ops.swapaxes(k, -1, -2) * root)
    scores = bias + scores
    return ops.matmul(masked_softmax(scores), v)


def masked_softmax(scores):
    """Softmax over the last axis, in which rows of -inf alone become 0."""
    hidden = ops.equal(ops.max(scores, axis=-1, keepdims=True), float("-inf"))
    return ops.where(hidden, 0.0, ops.softmax(ops.where(hidden, 0.0, scores)))


def visible_keys(x, axis=1):
    """Which keys each query sees: those that are there, up to its own place."""
    queries = ops.shape(x)[axis]
    keys = queries
    places = ops.arange(keys, dtype="int32")
    own = ops.expand_dims(ops.arange(queries, dtype="int32") + (keys - queries), 1)
    seen = places <= own
    return seen[None, None]


def position_buckets(positions, num_buckets, max_distance, bidirectional=False):
    """The bucket of each relative position: near ones have their own, farther ones share those of their logarithm."""
    distance = ops.abs(positions) if bidirectional else -ops.minimum(positions, 0)
    if bidirectional:
        num_buckets = num_buckets // 2
    exact = num_buckets // 2
    scale = ops.log(ops.cast(distance, "float32") / exact) / math.log(max_distance / exact)
    far = ops.cast(scale * (num_buckets - exact), positions.dtype) + exact
    buckets = ops.where(distance < exact, distance, ops.minimum(far, num_buckets - 1))
    if bidirectional:
        buckets = ops.cast(positions > 0, positions.dtype) * num_buckets + buckets
    return buckets


def split_heads(x, heads):
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    x = layers.Reshape((-1, heads, x.shape[-1] // heads), dtype=x.dtype)(x)
    return ops.transpose(x, (0, 2, 1, 3))


def merge_heads(x):
    """(batch, heads, time, size) -> (batch, time, heads * size)."""
    x = ops.transpose(x, (0, 2, 1, 3))
    return layers.Reshape((-1, x.shape[-2] * x.shape[-1]), dtype=x.dtype)(x)


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
class T5Attention(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.q = layers.Dense(64, use_bias=False, name="q")
        self.k = layers.Dense(64, use_bias=False, name="k")
        self.v = layers.Dense(64, use_bias=False, name="v")
        self.relative_attention_bias = layers.Embedding(32, 4, name="relative_attention_bias")
        self.o = layers.Dense(64, use_bias=False, name="o")

    def call(self, hidden_states, mask):
        query_states = split_heads(self.q(hidden_states), 4)
        key_states = split_heads(self.k(hidden_states), 4)
        value_states = split_heads(self.v(hidden_states), 4)
        context_position = ops.arange(ops.shape(value_states)[2], dtype="int64")
        context_position = ops.expand_dims(context_position, axis=1)
        memory_position = ops.arange(ops.shape(value_states)[2], dtype="int64")
        relative_position = ops.expand_dims(memory_position, axis=0) - context_position
        relative_position_bucket = position_buckets(
            relative_position, num_buckets=32, max_distance=128, bidirectional=True
        )
        values = self.relative_attention_bias(relative_position_bucket)
        position_bias = ops.transpose(ops.expand_dims(values, axis=0), (0, 3, 1, 2))
        position_bias_mask = ops.where(mask, position_bias, -3.4028234663852886e+38)
        attn_output = attention(
            query_states, key_states, value_states, bias=position_bias_mask, scale=1.0
        )
        attn_output = self.o(merge_heads(attn_output))
        return position_bias, attn_output


@keras.saving.register_keras_serializable()
class T5Attention2(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.q = layers.Dense(64, use_bias=False, name="q")
        self.k = layers.Dense(64, use_bias=False, name="k")
        self.v = layers.Dense(64, use_bias=False, name="v")
        self.relative_attention_bias = layers.Embedding(32, 4, name="relative_attention_bias")
        self.o = layers.Dense(64, use_bias=False, name="o")

    def call(self, hidden_states, mask):
        query_states = split_heads(self.q(hidden_states), 4)
        key_states = split_heads(self.k(hidden_states), 4)
        value_states = split_heads(self.v(hidden_states), 4)
        context_position = ops.arange(ops.shape(value_states)[2], dtype="int64")
        context_position = ops.expand_dims(context_position, axis=1)
        memory_position = ops.arange(ops.shape(value_states)[2], dtype="int64")
        relative_position = ops.expand_dims(memory_position, axis=0) - context_position
        relative_buckets = position_buckets(relative_position, num_buckets=32, max_distance=128)
        position_bias = ops.expand_dims(self.relative_attention_bias(relative_buckets), axis=0)
        position_bias = ops.transpose(position_bias, (0, 3, 1, 2))
        position_bias_mask = ops.where(mask, position_bias, -3.4028234663852886e+38)
        attn_output = attention(
            query_states, key_states, value_states, bias=position_bias_mask, scale=1.0
        )
        attn_output = self.o(merge_heads(attn_output))
        return position_bias, attn_output


@keras.saving.register_keras_serializable()
class T5Attention3(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.q = layers.Dense(64, use_bias=False, name="q")
        self.k = layers.Dense(64, use_bias=False, name="k")
        self.v = layers.Dense(64, use_bias=False, name="v")
        self.o = layers.Dense(64, use_bias=False, name="o")

    def call(self, hidden_states, key_value_states, mask):
        query_states = split_heads(self.q(hidden_states), 4)
        key_states = split_heads(self.k(key_value_states), 4)
        value_states = split_heads(self.v(key_value_states), 4)
        position_bias = ops.zeros((1, 4, ops.shape(query_states)[2], ops.shape(value_states)[2]))
        attention_mask = ops.where(mask, position_bias, -3.4028234663852886e+38)
        attn_output = attention(
            query_states, key_states, value_states, bias=attention_mask, scale=1.0
        )
        attn_output = self.o(merge_heads(attn_output))
        return position_bias, attn_output


@keras.saving.register_keras_serializable()
class T5Attention4(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.q = layers.Dense(64, use_bias=False, name="q")
        self.k = layers.Dense(64, use_bias=False, name="k")
        self.v = layers.Dense(64, use_bias=False, name="v")
        self.o = layers.Dense(64, use_bias=False, name="o")

    def call(self, hidden_states, mask, position_bias):
        query_states = split_heads(self.q(hidden_states), 4)
        key_states = split_heads(self.k(hidden_states), 4)
        value_states = split_heads(self.v(hidden_states), 4)
        position_bias_mask = ops.where(mask, position_bias, -3.4028234663852886e+38)
        attn_output = attention(
            query_states, key_states, value_states, bias=position_bias_mask, scale=1.0
        )
        return self.o(merge_heads(attn_output))


@keras.saving.register_keras_serializable()
class T5Attention5(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.q = layers.Dense(64, use_bias=False, name="q")
        self.k = layers.Dense(64, use_bias=False, name="k")
        self.v = layers.Dense(64, use_bias=False, name="v")
        self.o = layers.Dense(64, use_bias=False, name="o")

    def call(self, hidden_states, key_value_states, mask, position_bias):
        query_states = split_heads(self.q(hidden_states), 4)
        key_states = split_heads(self.k(key_value_states), 4)
        value_states = split_heads(self.v(key_value_states), 4)
        attention_mask = ops.where(mask, position_bias, -3.4028234663852886e+38)
        attn_output = attention(
            query_states, key_states, value_states, bias=attention_mask, scale=1.0
        )
        return self.o(merge_heads(attn_output))


def t5_dense_act_dense(hidden_states, name):
    hidden_states = layers.Dense(
        96, activation="relu", use_bias=False, name=f"{name}-wi"
    )(hidden_states)
    hidden_states = layers.Dropout(0.1, name=f"{name}-dropout")(hidden_states)
    return layers.Dense(64, use_bias=False, name=f"{name}-wo")(hidden_states)


def t5_attention(hidden_states, mask, position_bias, name):
    x = layers.Dense(64, use_bias=False, name=f"{name}-q")(hidden_states)
    query_states = split_heads(x, 4)
    x = layers.Dense(64, use_bias=False, name=f"{name}-k")(hidden_states)
    key_states = split_heads(x, 4)
    x = layers.Dense(64, use_bias=False, name=f"{name}-v")(hidden_states)
    value_states = split_heads(x, 4)
    position_bias_mask = ops.where(mask, position_bias, -3.4028234663852886e+38)
    attn_output = attention(
        query_states, key_states, value_states, bias=position_bias_mask, scale=1.0
    )
    attn_output = merge_heads(attn_output)
    return layers.Dense(64, use_bias=False, name=f"{name}-o")(attn_output)


@keras.saving.register_keras_serializable()
class T5DenseActDense(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.wi = layers.Dense(96, activation="relu", use_bias=False, name="wi")
        self.dropout = layers.Dropout(0.1, name="dropout")
        self.wo = layers.Dense(64, use_bias=False, name="wo")

    def call(self, hidden_states):
        hidden_states = self.wi(hidden_states)
        hidden_states = self.dropout(hidden_states)
        return self.wo(hidden_states)


def t5_layer_self_attention(hidden_states, attention_mask, name):
    normed_hidden_states = layers.RMSNormalization(name=f"{name}-layer_norm")(hidden_states)
    position_bias, attention_output = T5Attention(name=f"{name}-SelfAttention")(
        normed_hidden_states, attention_mask
    )
    x = layers.Dropout(0.1, name=f"{name}-dropout")(attention_output)
    attention_output = hidden_states + x
    return position_bias, attention_output


def t5_layer_self_attention_1(hidden_states, attention_mask, position_bias, name):
    normed_hidden_states = layers.RMSNormalization(name=f"{name}-layer_norm")(hidden_states)
    attention_output = t5_attention(
        normed_hidden_states, attention_mask, position_bias, name=f"{name}-SelfAttention"
    )
    x = layers.Dropout(0.1, name=f"{name}-dropout")(attention_output)
    return hidden_states + x


def t5_layer_ff(hidden_states, name):
    forwarded_states = layers.RMSNormalization(name=f"{name}-layer_norm")(hidden_states)
    forwarded_states = t5_dense_act_dense(forwarded_states, name=f"{name}-DenseReluDense")
    x = layers.Dropout(0.1, name=f"{name}-dropout")(forwarded_states)
    return hidden_states + x


@keras.saving.register_keras_serializable()
class T5LayerSelfAttention(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer_norm = layers.RMSNormalization(name="layer_norm")
        self.SelfAttention = T5Attention2(name="SelfAttention")
        self.dropout = layers.Dropout(0.1, name="dropout")

    def call(self, hidden_states, attention_mask):
        normed_hidden_states = self.layer_norm(hidden_states)
        position_bias, attention_output = self.SelfAttention(normed_hidden_states, attention_mask)
        attention_output = hidden_states + self.dropout(attention_output)
        return position_bias, attention_output


@keras.saving.register_keras_serializable()
class T5LayerSelfAttention2(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer_norm = layers.RMSNormalization(name="layer_norm")
        self.SelfAttention = T5Attention4(name="SelfAttention")
        self.dropout = layers.Dropout(0.1, name="dropout")

    def call(self, hidden_states, attention_mask, position_bias):
        normed_hidden_states = self.layer_norm(hidden_states)
        x = self.dropout(self.SelfAttention(normed_hidden_states, attention_mask, position_bias))
        return hidden_states + x


@keras.saving.register_keras_serializable()
class T5LayerCrossAttention(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer_norm = layers.RMSNormalization(name="layer_norm")
        self.EncDecAttention = T5Attention3(name="EncDecAttention")
        self.dropout = layers.Dropout(0.1, name="dropout")

    def call(self, hidden_states, key_value_states, attention_mask):
        position_bias, attention_output = self.EncDecAttention(
            self.layer_norm(hidden_states), key_value_states, attention_mask
        )
        layer_output = hidden_states + self.dropout(attention_output)
        return position_bias, layer_output


@keras.saving.register_keras_serializable()
class T5LayerCrossAttention2(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer_norm = layers.RMSNormalization(name="layer_norm")
        self.EncDecAttention = T5Attention5(name="EncDecAttention")
        self.dropout = layers.Dropout(0.1, name="dropout")

    def call(self, hidden_states, key_value_states, attention_mask, position_bias):
        attention_output = self.EncDecAttention(
            self.layer_norm(hidden_states), key_value_states, attention_mask, position_bias
        )
        return hidden_states + self.dropout(attention_output)


@keras.saving.register_keras_serializable()
class T5LayerFF(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer_norm = layers.RMSNormalization(name="layer_norm")
        self.DenseReluDense = T5DenseActDense(name="DenseReluDense")
        self.dropout = layers.Dropout(0.1, name="dropout")

    def call(self, hidden_states):
        forwarded_states = self.layer_norm(hidden_states)
        forwarded_states = self.DenseReluDense(forwarded_states)
        return hidden_states + self.dropout(forwarded_states)


def t5_block(hidden_states, attention_mask, name):
    self_attn_position_bias, hidden_states = t5_layer_self_attention(
        hidden_states, attention_mask, name=f"{name}-layer-0"
    )
    hidden_states = t5_layer_ff(hidden_states, name=f"{name}-layer-1")
    return self_attn_position_bias, hidden_states


def t5_block_1(hidden_states, attention_mask, position_bias, name):
    hidden_states = t5_layer_self_attention_1(
        hidden_states, attention_mask, position_bias, name=f"{name}-layer-0"
    )
    return t5_layer_ff(hidden_states, name=f"{name}-layer-1")


@keras.saving.register_keras_serializable()
class T5Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer = [
            T5LayerSelfAttention(name="layer-0"),
            T5LayerCrossAttention(name="layer-1"),
            T5LayerFF(name="layer-2"),
        ]

    def call(self, hidden_states, attention_mask, encoder_hidden_states, encoder_attention_mask):
        self_attn_position_bias, hidden_states = self.layer[0](hidden_states, attention_mask)
        cross_attn_position_bias, hidden_states = self.layer[1](
            hidden_states, encoder_hidden_states, encoder_attention_mask
        )
        hidden_states = self.layer[2](hidden_states)
        return self_attn_position_bias, cross_attn_position_bias, hidden_states


@keras.saving.register_keras_serializable()
class T5Block2(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer = [
            T5LayerSelfAttention2(name="layer-0"),
            T5LayerCrossAttention2(name="layer-1"),
            T5LayerFF(name="layer-2"),
        ]

    def call(
        self,
        hidden_states,
        attention_mask,
        position_bias,
        encoder_hidden_states,
        encoder_attention_mask,
        encoder_decoder_position_bias,
    ):
        hidden_states = self.layer[0](hidden_states, attention_mask, position_bias)
        hidden_states = self.layer[1](
            hidden_states,
            encoder_hidden_states,
            encoder_attention_mask,
            encoder_decoder_position_bias,
        )
        return self.layer[2](hidden_states)


def t5_stack(input_ids, attention_mask, weight, name):
    inputs_embeds = ops.take(weight, input_ids, axis=0)
    attention_mask = ops.cast(attention_mask, "bool")
    attention_mask = ops.expand_dims(attention_mask, axis=(1, 2))
    hidden_states = layers.Dropout(0.1, name=f"{name}-dropout")(inputs_embeds)
    self_attention_position_bias, hidden_states = t5_block(
        hidden_states, attention_mask, name=f"{name}-block-0"
    )
    hidden_states = t5_block_1(
        hidden_states, attention_mask, self_attention_position_bias, name=f"{name}-block-1"
    )
    hidden_states = t5_block_1(
        hidden_states, attention_mask, self_attention_position_bias, name=f"{name}-block-2"
    )
    hidden_states = layers.RMSNormalization(name=f"{name}-final_layer_norm")(hidden_states)
    return layers.Dropout(0.1)(hidden_states)


@keras.saving.register_keras_serializable()
class T5Stack(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dropout = layers.Dropout(0.1, name="dropout")
        self.block = [T5Block(name="block-0"), T5Block2(name="block-1"), T5Block2(name="block-2")]
        self.final_layer_norm = layers.RMSNormalization(name="final_layer_norm")
        self.dropout_dropout = layers.Dropout(0.1)

    def call(self, input_ids, encoder_attention_mask, encoder_hidden_states, weight):
        inputs_embeds = ops.take(weight, input_ids, axis=0)
        attention_mask = visible_keys(inputs_embeds)
        attention_mask = ops.broadcast_to(
            attention_mask,
            (
                ops.shape(inputs_embeds)[0],
                1,
                ops.shape(attention_mask)[2],
                ops.shape(attention_mask)[3],
            ),
        )
        attention_mask_1 = ops.expand_dims(ops.cast(encoder_attention_mask, "bool"), axis=(1, 2))
        hidden_states = self.dropout(inputs_embeds)
        self_attention_position_bias, cross_attention_position_bias, hidden_states = self.block[0](
            hidden_states, attention_mask, encoder_hidden_states, attention_mask_1
        )
        for layer in self.block[1:]:
            hidden_states = layer(
                hidden_states,
                attention_mask,
                self_attention_position_bias,
                encoder_hidden_states,
                attention_mask_1,
                cross_attention_position_bias,
            )
        hidden_states = self.final_layer_norm(hidden_states)
        return self.dropout_dropout(hidden_states)


def build_model():
    input_ids = keras.Input((None,), dtype="int64", name="input_ids")
    attention_mask = keras.Input((None,), dtype="int64", name="attention_mask")
    decoder_input_ids = keras.Input((None,), dtype="int64", name="decoder_input_ids")
    x = Weight((128, 64), name="shared-weight")(input_ids)
    encoder_last_hidden_state = t5_stack(input_ids, attention_mask, x, name="encoder")
    sequence_output = T5Stack(name="decoder")(
        decoder_input_ids, attention_mask, encoder_last_hidden_state, x
    )
    sequence_output = sequence_output * 0.125
    logits = ops.matmul(sequence_output, ops.transpose(x))
    return keras.Model(
        [input_ids, attention_mask, decoder_input_ids],
        [logits, encoder_last_hidden_state],
        name="t5forconditionalgeneration",
    )
