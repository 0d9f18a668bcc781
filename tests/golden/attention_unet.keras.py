import keras
from keras import layers, ops


def attention(q, k, v):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    root = (q.shape[-1] ** -0.5) ** 0.5
    scores = ops.matmul(q * root, ops.swapaxes(k, -1, -2) * root)
    weights = ops.softmax(scores)
    return ops.matmul(weights, v)


def time(x, name):
    x = layers.Dense(8, activation="silu", name=f"{name}-0")(x)
    return layers.Dense(8, name=f"{name}-2")(x)


def residual_block(x, time, filters, target_shape, name, has_shortcut=False):
    out = layers.GroupNormalization(2, epsilon=1e-05, name=f"{name}-norm1")(x)
    y = layers.Activation("silu")(out)
    conv = layers.Conv2D(filters, 3, padding="same", name=f"{name}-conv1")(y)
    y = layers.Activation("silu")(time)
    out = layers.Dense(filters, name=f"{name}-time")(y)
    out = layers.Reshape(target_shape)(out)
    y = conv + out
    x = layers.Conv2D(filters, 1, name=f"{name}-shortcut")(x) if has_shortcut else x
    out = layers.GroupNormalization(2, epsilon=1e-05, name=f"{name}-norm2")(y)
    out = layers.Activation("silu")(out)
    out = layers.Conv2D(filters, 3, padding="same", name=f"{name}-conv2")(out)
    return x + out


def spatial_attention(x, name):
    out = layers.GroupNormalization(2, epsilon=1e-05, name=f"{name}-norm")(x)
    out = layers.Conv2D(24, 1, name=f"{name}-qkv")(out)
    out = layers.Reshape((16, 24))(out)
    q, k, v = ops.split(out, 3, axis=2)
    y = ops.expand_dims(q, axis=0)
    y_1 = ops.expand_dims(k, axis=0)
    y_2 = ops.expand_dims(v, axis=0)
    y = attention(y, y_1, y_2)
    y = ops.reshape(y, (-1, 16, 8))
    y = layers.Reshape((4, 4, 8))(y)
    out = layers.Conv2D(8, 1, name=f"{name}-out")(y)
    return x + out


def build_model():
    image = keras.Input((3, 8, 8), name="image")
    step = keras.Input((1,), name="step")
    time_1 = time(step, name="time")
    x = layers.Permute((2, 3, 1))(image)
    x = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    skip = residual_block(x, time_1, 4, (1, 1, 4), name="down1")
    x = layers.ZeroPadding2D(1)(skip)
    x = layers.Conv2D(4, 3, strides=2, name="downsample")(x)
    x = residual_block(x, time_1, 8, (1, 1, 8), has_shortcut=True, name="down2")
    x = spatial_attention(x, name="attention")
    x = residual_block(x, time_1, 8, (1, 1, 8), name="middle")
    x = layers.UpSampling2D(2)(x)
    x = ops.concatenate([x, skip], axis=3)
    x = residual_block(x, time_1, 4, (1, 1, 4), has_shortcut=True, name="up1")
    x = layers.Conv2D(3, 3, padding="same", name="head")(x)
    x = layers.Permute((3, 1, 2))(x)
    return keras.Model([image, step], x, name="attentionunet")
