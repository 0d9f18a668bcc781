import math

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("dlbridge")
class UnbiasedBatchNormalization(layers.BatchNormalization):
    """Batch normalisation whose moving variance is n / (n - 1) of the batch's, as PyTorch keeps it."""

    def call(self, inputs, training=None, mask=None):
        if not training or not self.trainable:
            return super().call(inputs, training=training, mask=mask)
        kept = self.moving_variance * self.momentum
        outputs = super().call(inputs, training=training, mask=mask)
        shape = ops.shape(inputs)
        axis = self.axis % len(shape)
        count = ops.cast(math.prod(shape[:axis] + shape[axis + 1 :]), kept.dtype)
        self.moving_variance.assign(kept + (self.moving_variance - kept) * count / (count - 1))
        return outputs


def downsample(x, filters, name):
    x = layers.Conv2D(filters, 1, strides=2, use_bias=False, name=f"{name}-0")(x)
    return UnbiasedBatchNormalization(epsilon=1e-05, momentum=0.9, name=f"{name}-1")(x)


def basic_block(x, filters, name, strides=1, padding="valid", has_downsample=False):
    identity = downsample(x, filters, name=f"{name}-downsample") if has_downsample else x
    x = layers.ZeroPadding2D(1)(x) if has_downsample else x
    x = layers.Conv2D(
        filters, 3, strides=strides, padding=padding, use_bias=False, name=f"{name}-conv1"
    )(x)
    x = UnbiasedBatchNormalization(epsilon=1e-05, momentum=0.9, name=f"{name}-bn1")(x)
    out = layers.ReLU(name=f"{name}-relu")(x)
    out = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}-conv2")(out)
    out = UnbiasedBatchNormalization(epsilon=1e-05, momentum=0.9, name=f"{name}-bn2")(out)
    out = out + identity
    return layers.ReLU()(out)


def layer(x, filters, name, strides=1, padding="valid", has_downsample=False):
    out = basic_block(
        x,
        filters,
        strides=strides,
        padding=padding,
        has_downsample=has_downsample,
        name=f"{name}-0",
    )
    return basic_block(out, filters, padding="same", name=f"{name}-1")


def build_model():
    inputs = keras.Input((3, 32, 32), name="x")
    x = layers.Permute((2, 3, 1))(inputs)
    x = layers.ZeroPadding2D(3)(x)
    x = layers.Conv2D(8, 7, strides=2, use_bias=False, name="conv1")(x)
    x = UnbiasedBatchNormalization(epsilon=1e-05, momentum=0.9, name="bn1")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.MaxPooling2D(3, strides=2, name="maxpool")(
        ops.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=float("-inf"))
    )
    x = layer(x, 8, padding="same", name="layer1")
    x = layer(x, 16, strides=2, has_downsample=True, name="layer2")
    x = layer(x, 32, strides=2, has_downsample=True, name="layer3")
    x = layer(x, 64, strides=2, has_downsample=True, name="layer4")
    x = layers.GlobalAveragePooling2D(keepdims=True, name="avgpool")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(10, name="fc")(x)
    return keras.Model(inputs, x, name="resnet18")
