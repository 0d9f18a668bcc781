import keras
from keras import layers, ops


def attention(q, k, v, is_causal=False, scale=None):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    root = scale ** 0.5
    scores = ops.matmul(q * root, ops.swapaxes(k, -1, -2) * root)
    if is_causal:
        ones = ops.ones_like(scores[0, 0], dtype="int32")
        rows, columns = ops.cumsum(ones, axis=0), ops.cumsum(ones, axis=1)
        scores = ops.where(columns <= rows, scores, float("-inf"))
    return ops.matmul(ops.softmax(scores), v)


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
class WhisperAttention(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.q_proj = layers.Dense(64, name="q_proj")
        self.k_proj = layers.Dense(64, use_bias=False, name="k_proj")
        self.v_proj = layers.Dense(64, name="v_proj")
        self.out_proj = layers.Dense(64, name="out_proj")

    def call(self, hidden_states):
        query_states = self.q_proj(hidden_states) * 0.25
        query_states = ops.reshape(query_states, (-1, 30, 4, 16))
        query_states = ops.transpose(query_states, (0, 2, 1, 3))
        x = self.k_proj(hidden_states)
        key_states = ops.reshape(x, (-1, 30, 4, 16))
        key_states = ops.transpose(key_states, (0, 2, 1, 3))
        x = self.v_proj(hidden_states)
        value_states = ops.reshape(x, (-1, 30, 4, 16))
        value_states = ops.transpose(value_states, (0, 2, 1, 3))
        attn_output = attention(query_states, key_states, value_states, scale=1.0)
        attn_output = ops.transpose(attn_output, (0, 2, 1, 3))
        attn_output = ops.reshape(attn_output, (-1, 30, 64))
        return self.out_proj(attn_output)


@keras.saving.register_keras_serializable()
class WhisperAttention2(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.q_proj = layers.Dense(64, name="q_proj")
        self.k_proj = layers.Dense(64, use_bias=False, name="k_proj")
        self.v_proj = layers.Dense(64, name="v_proj")
        self.out_proj = layers.Dense(64, name="out_proj")

    def call(self, hidden_states, key_value_states):
        query_states = split_heads(self.q_proj(hidden_states) * 0.25, 4)
        x = self.k_proj(key_value_states)
        key_states = ops.reshape(x, (-1, 30, 4, 16))
        key_states = ops.transpose(key_states, (0, 2, 1, 3))
        x = self.v_proj(key_value_states)
        value_states = ops.reshape(x, (-1, 30, 4, 16))
        value_states = ops.transpose(value_states, (0, 2, 1, 3))
        attn_output = merge_heads(attention(query_states, key_states, value_states, scale=1.0))
        return self.out_proj(attn_output)


@keras.saving.register_keras_serializable()
class WhisperAttention3(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.q_proj = layers.Dense(64, name="q_proj")
        self.k_proj = layers.Dense(64, use_bias=False, name="k_proj")
        self.v_proj = layers.Dense(64, name="v_proj")
        self.out_proj = layers.Dense(64, name="out_proj")

    def call(self, hidden_states):
        query_states = split_heads(self.q_proj(hidden_states) * 0.25, 4)
        key_states = split_heads(self.k_proj(hidden_states), 4)
        value_states = split_heads(self.v_proj(hidden_states), 4)
        attn_output = attention(query_states, key_states, value_states, is_causal=True, scale=1.0)
        return self.out_proj(merge_heads(attn_output))


@keras.saving.register_keras_serializable()
class WhisperEncoderLayer(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.self_attn_layer_norm = layers.LayerNormalization(
            epsilon=1e-05, name="self_attn_layer_norm"
        )
        self.self_attn = WhisperAttention(name="self_attn")
        self.dropout = layers.Dropout(0.0)
        self.final_layer_norm = layers.LayerNormalization(epsilon=1e-05, name="final_layer_norm")
        self.fc1 = layers.Dense(96, activation="gelu", name="fc1")
        self.dropout_1 = layers.Dropout(0.0)
        self.fc2 = layers.Dense(64, name="fc2")
        self.dropout_2 = layers.Dropout(0.0)

    def call(self, hidden_states):
        hidden_states_1 = self.dropout(self.self_attn(self.self_attn_layer_norm(hidden_states)))
        hidden_states = hidden_states + hidden_states_1
        hidden_states_1 = self.dropout_1(self.fc1(self.final_layer_norm(hidden_states)))
        return hidden_states + self.dropout_2(self.fc2(hidden_states_1))


@keras.saving.register_keras_serializable()
class WhisperDecoderLayer(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.self_attn_layer_norm = layers.LayerNormalization(
            epsilon=1e-05, name="self_attn_layer_norm"
        )
        self.self_attn = WhisperAttention3(name="self_attn")
        self.dropout = layers.Dropout(0.0)
        self.encoder_attn_layer_norm = layers.LayerNormalization(
            epsilon=1e-05, name="encoder_attn_layer_norm"
        )
        self.encoder_attn = WhisperAttention2(name="encoder_attn")
        self.dropout_1 = layers.Dropout(0.0)
        self.final_layer_norm = layers.LayerNormalization(epsilon=1e-05, name="final_layer_norm")
        self.fc1 = layers.Dense(96, activation="gelu", name="fc1")
        self.dropout_2 = layers.Dropout(0.0)
        self.fc2 = layers.Dense(64, name="fc2")
        self.dropout_3 = layers.Dropout(0.0)

    def call(self, hidden_states, encoder_hidden_states):
        hidden_states_1 = self.dropout(self.self_attn(self.self_attn_layer_norm(hidden_states)))
        hidden_states = hidden_states + hidden_states_1
        encoder_attn_layer_norm = self.encoder_attn_layer_norm(hidden_states)
        attn_output = self.encoder_attn(encoder_attn_layer_norm, encoder_hidden_states)
        hidden_states = hidden_states + self.dropout_1(attn_output)
        hidden_states_1 = self.dropout_2(self.fc1(self.final_layer_norm(hidden_states)))
        return hidden_states + self.dropout_3(self.fc2(hidden_states_1))


@keras.saving.register_keras_serializable()
class WhisperEncoder(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv1 = layers.Conv1D(64, 3, padding="same", activation="gelu", name="conv1")
        self.conv2 = layers.Conv1D(64, 3, strides=2, activation="gelu", name="conv2")
        self.embed_positions = layers.Embedding(30, 64, trainable=False, name="embed_positions")
        self.dropout = layers.Dropout(0.0)
        self.layers = [WhisperEncoderLayer(name="layers-0"), WhisperEncoderLayer(name="layers-1")]
        self.layer_norm = layers.LayerNormalization(epsilon=1e-05, name="layer_norm")

    def call(self, x):
        x = self.conv1(x)
        x = ops.pad(x, [(0, 0), (1, 1), (0, 0)])
        hidden_states = self.conv2(x) + self.embed_positions(ops.arange(30, dtype="int64"))
        hidden_states = self.dropout(hidden_states)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return self.layer_norm(hidden_states)


@keras.saving.register_keras_serializable()
class WhisperDecoder(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embed_positions = layers.Embedding(40, 64, name="embed_positions")
        self.dropout = layers.Dropout(0.0)
        self.layers = [WhisperDecoderLayer(name="layers-0"), WhisperDecoderLayer(name="layers-1")]
        self.layer_norm = layers.LayerNormalization(epsilon=1e-05, name="layer_norm")

    def call(self, input_ids, encoder_hidden_states, weight):
        inputs_embeds = without_padding(ops.take(weight, input_ids, axis=0), input_ids, 0)
        position_ids = ops.arange(ops.shape(inputs_embeds)[1], dtype="int64")
        position_ids = ops.expand_dims(position_ids, axis=0)
        position_ids = ops.tile(position_ids, [ops.shape(inputs_embeds)[0], 1])
        hidden_states = inputs_embeds + self.embed_positions(position_ids)
        hidden_states = self.dropout(hidden_states)
        for layer in self.layers:
            hidden_states = layer(hidden_states, encoder_hidden_states)
        return self.layer_norm(hidden_states)


def whisper_model(x, decoder_input_ids, weight, name):
    encoder_outputs = WhisperEncoder(name=f"{name}-encoder")(x)
    decoder_outputs = WhisperDecoder(name=f"{name}-decoder")(
        decoder_input_ids, encoder_outputs, weight
    )
    return encoder_outputs, decoder_outputs


def build_model():
    input_features = keras.Input((16, 60), name="input_features")
    decoder_input_ids = keras.Input((None,), dtype="int64", name="decoder_input_ids")
    x = Weight((128, 64), name="model_decoder_embed_tokens_weight")(input_features)
    input_features_channels_last = layers.Permute((2, 1))(input_features)
    encoder_last_hidden_state, hidden_states = whisper_model(
        input_features_channels_last, decoder_input_ids, x, name="model"
    )
    logits = ops.matmul(hidden_states, ops.transpose(x))
    return keras.Model(
        [input_features, decoder_input_ids],
        [logits, encoder_last_hidden_state],
        name="whisperforconditionalgeneration",
    )
