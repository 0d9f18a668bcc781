"""Batch normalisations that Keras has no layer for."""

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


@keras.saving.register_keras_serializable("dlbridge")
class CumulativeBatchNormalization(UnbiasedBatchNormalization):
    """Batch normalisation whose moving statistics are the mean over all batches so far."""

    def build(self, input_shape):
        super().build(input_shape)
        self.batches = self.add_weight(name="batches", shape=(), dtype="int64", initializer="zeros", trainable=False)

    def call(self, inputs, training=None, mask=None):
        if not training or not self.trainable:
            return super().call(inputs, training=training, mask=mask)
        usual = self.momentum
        self.batches.assign_add(1)
        self.momentum = 1 - 1 / ops.cast(self.batches, self.moving_mean.dtype)
        outputs = super().call(inputs, training=training, mask=mask)
        self.momentum = usual
        return outputs


@keras.saving.register_keras_serializable("dlbridge")
class FrozenStatisticsNormalization(layers.BatchNormalization):
    """Batch normalisation by the moving statistics, in training too, which stay as they are; scale and shift train."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)


@keras.saving.register_keras_serializable("dlbridge")
class InstanceStatisticsNormalization(layers.BatchNormalization):
    """Normalises by the moving statistics, in training each sample by its own; they follow the mean of these."""

    def call(self, inputs, training=None, mask=None):
        if not training or not self.trainable:
            return super().call(inputs, training=False, mask=mask)
        channels = self.axis % len(inputs.shape)
        axes = [axis for axis in range(1, len(inputs.shape)) if axis != channels]
        mean, variance = ops.moments(inputs, axes, keepdims=True)
        count = ops.cast(math.prod(ops.shape(inputs)[axis] for axis in axes), self.moving_mean.dtype)
        old, new = self.momentum, 1 - self.momentum
        self.moving_mean.assign(old * self.moving_mean + new * ops.reshape(ops.mean(mean, axis=0), (-1,)))
        unbiased = ops.reshape(ops.mean(variance, axis=0), (-1,)) * count / (count - 1)
        self.moving_variance.assign(old * self.moving_variance + new * unbiased)
        shape = [1] * len(inputs.shape)
        shape[channels] = -1
        outputs = (inputs - mean) * ops.rsqrt(variance + self.epsilon)
        outputs = ops.reshape(self.gamma, shape) * outputs if self.scale else outputs
        return ops.reshape(self.beta, shape) + outputs if self.center else outputs
