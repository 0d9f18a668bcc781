import keras
from keras import layers, ops


def attention(q, k, v):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    root = (q.shape[-1] ** -0.5) ** 0.5
    scores = ops.matmul(q * root, ops.swapaxes(k, -1, -2) * root)
    weights = ops.softmax(scores)
    return ops.matmul(weights, v)


@keras.saving.register_keras_serializable()
class MultiheadAttention(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.linear = layers.Dense(48, name="linear")
        self.out_proj = layers.Dense(16, name="out_proj")

    def call(self, x):
        x = self.linear(x)
        q, k, v = ops.split(x, 3, axis=2)
        q = ops.reshape(q, (-1, 17, 2, 8))
        q = ops.transpose(q, (0, 2, 1, 3))
        k = ops.reshape(k, (-1, 17, 2, 8))
        k = ops.transpose(k, (0, 2, 1, 3))
        v = ops.reshape(v, (-1, 17, 2, 8))
        v = ops.transpose(v, (0, 2, 1, 3))
        x = attention(q, k, v)
        x = ops.transpose(x, (0, 2, 1, 3))
        x = ops.reshape(x, (-1, 17, 16))
        return self.out_proj(x)


@keras.saving.register_keras_serializable()
class EncoderBlock(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm1 = layers.LayerNormalization(epsilon=1e-05, name="norm1")
        self.attention = MultiheadAttention(name="attention")
        self.norm2 = layers.LayerNormalization(epsilon=1e-05, name="norm2")
        self.mlp = [
            layers.Dense(64, activation="gelu", name="mlp-0"),
            layers.Dropout(0.1, name="mlp-2"),
            layers.Dense(16, name="mlp-3"),
        ]

    def call(self, x):
        x = x + self.attention(self.norm1(x))
        out = self.norm2(x)
        for layer in self.mlp:
            out = layer(out)
        return x + out


@keras.saving.register_keras_serializable()
class VisionTransformer(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.class_token = self.add_weight(name="class_token", shape=(1, 1, 16))
        self.positions = self.add_weight(name="positions", shape=(1, 17, 16))
        self.patches = layers.Conv2D(16, 4, strides=4, name="patches")
        self.blocks = [EncoderBlock(name=f"blocks-{i}") for i in range(3)]
        self.norm = layers.LayerNormalization(epsilon=1e-05, name="norm")
        self.head = layers.Dense(10, name="head")

    def call(self, image):
        x = ops.transpose(image, (0, 2, 3, 1))
        x = self.patches(x)
        x = ops.reshape(x, (-1, 16, 16))
        x_1 = ops.broadcast_to(self.class_token, (ops.shape(x)[0], 1, 16))
        x = ops.concatenate([x_1, x], axis=1)
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        x = x[:, 0]
        return self.head(x)


def build_model():
    inputs = keras.Input((3, 16, 16), name="image")
    outputs = VisionTransformer(name="network")(inputs)
    return keras.Model(inputs, outputs, name="visiontransformer")
