import keras
from keras import layers, ops


def attention(q, k, v, heads):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    q, k, v = (split_heads(x, h) for x, h in ((q, heads[0]), (k, heads[1]), (v, heads[1])))
    root = (q.shape[-1] ** -0.5) ** 0.5
    scores = ops.matmul(q * root, ops.swapaxes(k, -1, -2) * root)
    weights = ops.softmax(scores)
    return merge_heads(ops.matmul(weights, v))


def split_heads(x, heads):
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    x = layers.Reshape((-1, heads, x.shape[-1] // heads), dtype=x.dtype)(x)
    return ops.transpose(x, (0, 2, 1, 3))


def merge_heads(x):
    """(batch, heads, time, size) -> (batch, time, heads * size)."""
    x = ops.transpose(x, (0, 2, 1, 3))
    return layers.Reshape((-1, x.shape[-2] * x.shape[-1]), dtype=x.dtype)(x)


@keras.saving.register_keras_serializable()
class Attention(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.query = layers.Dense(64, name="query")
        self.key = layers.Dense(64, name="key")
        self.value = layers.Dense(64, name="value")
        self.out = layers.Dense(64, name="out")

    def call(self, x):
        query = self.query(x)
        key = self.key(x)
        x = self.value(x)
        x = attention(query, key, x, heads=(4, 4))
        return self.out(x)


@keras.saving.register_keras_serializable()
class EncoderBlock(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm1 = layers.LayerNormalization(epsilon=1e-05, name="norm1")
        self.attention = Attention(name="attention")
        self.norm2 = layers.LayerNormalization(epsilon=1e-05, name="norm2")
        self.fc1 = layers.Dense(256, activation="gelu", name="fc1")
        self.fc2 = layers.Dense(64, name="fc2")

    def call(self, x):
        attended = x + self.attention(self.norm1(x))
        x = self.norm2(attended)
        x = self.fc1(x)
        return attended + self.fc2(x)


@keras.saving.register_keras_serializable()
class TransformerEncoder(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.positions = self.add_weight(name="positions", shape=(128, 64))
        self.embedding = layers.Embedding(1000, 64, name="embedding")
        self.blocks = [EncoderBlock(name="blocks-0"), EncoderBlock(name="blocks-1")]
        self.norm = layers.LayerNormalization(epsilon=1e-05, name="norm")
        self.classifier = layers.Dense(4, name="classifier")

    def call(self, tokens):
        x = self.embedding(tokens)
        positions_here = self.positions[:ops.shape(tokens)[1], ...]
        x = x + positions_here
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        x = ops.mean(x, axis=1)
        return self.classifier(x)


def build_model():
    inputs = keras.Input((None,), dtype="int64", name="tokens")
    outputs = TransformerEncoder(name="network")(inputs)
    return keras.Model(inputs, outputs, name="transformer_encoder")


def train(model, tokens, label):
    model.compile(
        optimizer="adamw",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(tokens, label, epochs=10)
