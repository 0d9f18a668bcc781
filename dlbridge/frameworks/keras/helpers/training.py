"""A loss and a metric of logits (batch, classes, ...); Keras' own have the classes on the last axis."""

import keras
from keras import ops


def channels_first_cross_entropy(label, logits):
    """Cross-entropy of logits (batch, classes, ...) with class numbers (batch, ...)."""
    return keras.losses.sparse_categorical_crossentropy(label, ops.moveaxis(logits, 1, -1), from_logits=True)


def channels_first_accuracy(label, logits):
    """Whether the largest logit is that of the class."""
    return ops.equal(ops.argmax(logits, axis=1), ops.cast(label, "int32"))
