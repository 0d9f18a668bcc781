"""Helpers that rearrange, cut and join tensors."""

from keras import ops


def to_list(x):
    """The numbers in a tensor; they must be known, as they are when code runs eagerly."""
    return ops.convert_to_numpy(x).tolist()
