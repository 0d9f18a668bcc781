"""Normalisations that Keras has no layer or function for."""

import math

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("dlbridge")
class UnbiasedBatchNormalization(layers.BatchNormalization):
    """Batch normalisation whose moving variance is n / (n - 1) of the batch's, as PyTorch keeps it."""

    def call(self, inputs, training=None, mask=None):
        kept = self.moving_variance * self.momentum
        outputs = super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            shape = ops.shape(inputs)
            axis = self.axis % len(shape)
            count = ops.cast(math.prod(shape[:axis] + shape[axis + 1 :]), kept.dtype)
            self.moving_variance.assign(kept + (self.moving_variance - kept) * count / (count - 1))
        return outputs


def layer_norm(x, scale, bias, axes, epsilon):
    """Layer norm over any axes; also the mean and the inverse standard deviation."""
    mean, variance = ops.moments(x, axes=axes, keepdims=True)
    inverse = ops.rsqrt(variance + epsilon)
    y = scale * ((x - mean) * inverse)
    return (y if bias is None else bias + y), mean, inverse


def rms_norm(x, scale, axes, epsilon):
    """x over its root mean square."""
    return scale * (x * ops.rsqrt(ops.mean(ops.square(x), axis=axes, keepdims=True) + epsilon))


def lp_norm(x, p, axes):
    """The p-norm over axes, which stay."""
    return ops.power(ops.sum(ops.power(ops.abs(x), p), axis=axes, keepdims=True), 1 / p)
