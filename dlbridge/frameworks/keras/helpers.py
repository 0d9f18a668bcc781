"""Layers and short functions for what Keras has no single call for; the writer copies those that a model uses."""

import math

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("dlbridge")
class Weight(layers.Layer):
    """A free weight; called with any tensor of the model, which only says where it stands."""

    def __init__(self, shape, trainable=True, **kwargs):
        super().__init__(trainable=trainable, **kwargs)
        self.shape = tuple(shape)
        self.value = self.add_weight(name="value", shape=self.shape, trainable=trainable, dtype=self.dtype)

    def call(self, x):
        return ops.convert_to_tensor(self.value)

    def compute_output_spec(self, x):
        return keras.KerasTensor(self.shape, dtype=self.dtype)

    def get_config(self):
        return {**super().get_config(), "shape": self.shape, "trainable": self.trainable}


@keras.saving.register_keras_serializable("dlbridge")
class UnbiasedBatchNormalization(layers.BatchNormalization):
    """Batch normalisation whose moving variance is n / (n - 1) of the batch's, as PyTorch keeps it."""

    def call(self, inputs, training=None, mask=None):
        before = ops.convert_to_tensor(self.moving_variance)
        outputs = super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            shape = ops.shape(inputs)
            axis = self.axis % len(shape)
            count = ops.cast(math.prod(shape[:axis] + shape[axis + 1 :]), before.dtype)
            kept = before * self.momentum
            self.moving_variance.assign(kept + (self.moving_variance - kept) * count / (count - 1))
        return outputs


def attention(q, k, v, mask=None, heads=None, is_causal=False, scale=None, softcap=None):
    """Scaled dot-product attention of (batch, heads, time, size), or of (batch, time, heads * size) with ``heads``."""
    if heads is not None:
        q, k, v = (split_heads(x, h) for x, h in ((q, heads[0]), (k, heads[1]), (v, heads[1])))
    if k.shape[1] != q.shape[1]:
        k, v = (ops.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = ops.matmul(q * scale**0.5, ops.swapaxes(k, -1, -2) * scale**0.5)
    if softcap is not None:
        scores = softcap * ops.tanh(scores / softcap)
    if is_causal:
        ones = ops.ones_like(scores[0, 0], dtype="int32")
        rows, columns = ops.cumsum(ones, axis=0), ops.cumsum(ones, axis=1)
        scores = ops.where(columns <= rows, scores, float("-inf"))
    if mask is not None:
        boolean = keras.backend.standardize_dtype(mask.dtype) == "bool"
        scores = ops.where(mask, scores, float("-inf")) if boolean else mask + scores
    y = ops.matmul(ops.softmax(scores), v)
    return y if heads is None else merge_heads(y)


def split_heads(x, heads):
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    x = layers.Reshape((-1, heads, x.shape[-1] // heads))(x)
    return ops.transpose(x, (0, 2, 1, 3))


def merge_heads(x):
    """(batch, heads, time, size) -> (batch, time, heads * size)."""
    x = ops.transpose(x, (0, 2, 1, 3))
    return layers.Reshape((-1, x.shape[-2] * x.shape[-1]))(x)


def recurrent_outputs(outputs, directions, time_first):
    """A recurrent layer's sequence and states, with a direction axis: (time, directions, batch, units)."""
    sequence, *states = outputs
    parts = ops.split(sequence, directions, axis=-1)
    each = len(states) // directions
    ends = [[states[d * each + s] for d in range(directions)] for s in range(each)]
    if time_first:
        sequence = ops.stack([ops.transpose(p, (1, 0, 2)) for p in parts], axis=1)
        return (sequence, *(ops.stack(e, axis=0) for e in ends))
    return (ops.stack(parts, axis=2), *(ops.stack(e, axis=1) for e in ends))


def layer_norm(x, scale, bias, axes, epsilon):
    """Layer norm over any axes; also the mean and the inverse standard deviation."""
    mean, variance = ops.moments(x, axes=axes, keepdims=True)
    inverse = ops.rsqrt(variance + epsilon)
    y = scale * ((x - mean) * inverse)
    return (y if bias is None else bias + y), mean, inverse


def rms_norm(x, scale, axes, epsilon):
    """x over its root mean square."""
    return scale * (x * ops.rsqrt(ops.mean(ops.square(x), axis=axes, keepdims=True) + epsilon))


def average_pool(x, size, strides, counted, uncounted):
    """The mean over windows; ``uncounted`` pads do not count."""
    x = ops.pad(x, counted)
    ones = ops.pad(ops.ones_like(x), uncounted)
    x = ops.pad(x, uncounted)
    return ops.average_pool(x, size, strides) / ops.average_pool(ones, size, strides)


def lp_pool(x, p, size, strides, pads):
    """The p-norm over windows."""
    powers = ops.power(ops.abs(ops.pad(x, pads)), p)
    return ops.power(ops.average_pool(powers, size, strides) * math.prod(size), 1 / p)


def lp_norm(x, p, axes):
    """The p-norm over axes, which stay."""
    return ops.power(ops.sum(ops.power(ops.abs(x), p), axis=axes, keepdims=True), 1 / p)


def truncated_divide(a, b):
    """Integer division towards zero."""
    return ops.sign(a) * ops.sign(b) * ops.floor_divide(ops.abs(a), ops.abs(b))


def truncated_mod(a, b):
    """The remainder with the sign of the dividend."""
    return ops.sign(a) * ops.mod(ops.abs(a), ops.abs(b))


def top_k(x, k, axis, largest):
    """The k largest (or smallest) along an axis, in order, and their places."""
    x = ops.moveaxis(x, axis, -1)
    values, places = ops.top_k(x if largest else -x, k)
    values = values if largest else -values
    return ops.moveaxis(values, -1, axis), ops.cast(ops.moveaxis(places, -1, axis), "int64")


def cumsum(x, axis, exclusive, reverse):
    """The running sum along an axis, without the element itself or from the end."""
    x = ops.flip(x, axis) if reverse else x
    y = ops.cumsum(x, axis) - x if exclusive else ops.cumsum(x, axis)
    return ops.flip(y, axis) if reverse else y
