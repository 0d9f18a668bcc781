import keras
from keras import layers, ops


def attention(q, k, v):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    root = (q.shape[-1] ** -0.5) ** 0.5
    scores = ops.matmul(q * root, ops.swapaxes(k, -1, -2) * root)
    return ops.matmul(ops.softmax(scores), v)


@keras.saving.register_keras_serializable()
class MultiheadAttention(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.linear = layers.Dense(48, name="linear")
        self.linear_1 = layers.Dense(16, name="linear_1")

    def call(self, x):
        x = ops.transpose(x, (1, 0, 2))
        x = self.linear(x)
        x = ops.expand_dims(ops.reshape(x, (17, -1, 3, 16)), axis=0)
        x = ops.squeeze(x, axis=0)
        out = x[:, :, 0]
        gather = x[:, :, 1]
        x = x[:, :, 2]
        out = ops.reshape(out, (17, -1, 8))
        out = ops.transpose(out, (1, 0, 2))
        gather = ops.reshape(gather, (17, -1, 8))
        gather = ops.transpose(gather, (1, 0, 2))
        x = ops.reshape(x, (17, -1, 8))
        x = ops.transpose(x, (1, 0, 2))
        out = ops.reshape(out, (-1, 2, 17, 8))
        gather = ops.reshape(gather, (-1, 2, 17, 8))
        x = ops.reshape(x, (-1, 2, 17, 8))
        x = attention(out, gather, x)
        x = ops.transpose(x, (2, 0, 1, 3))
        x = ops.reshape(x, (-1, 16))
        x = self.linear_1(x)
        x = ops.reshape(x, (17, -1, 16))
        return ops.transpose(x, (1, 0, 2))


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
