"""What recurrent layers give, in the layout of ONNX."""

from keras import ops


def steps_before(x, lengths):
    """Which steps of x (batch, time, ...) are before the end of their sequence: (batch, time)."""
    places = ops.cumsum(ops.ones_like(x[:, :, 0], dtype="int32"), axis=1)
    return places <= ops.expand_dims(ops.cast(lengths, "int32"), 1)


def onnx_states(outputs, directions=1, batch_first=False):
    """A recurrent layer's sequence, and its last states in ONNX's layout: (directions, batch, units)."""
    y, *states = outputs
    each = len(states) // directions
    return y, *(ops.stack(states[s::each], axis=1 if batch_first else 0) for s in range(each))


def onnx_outputs(outputs, directions=1, batch_first=False, backwards=False):
    """A recurrent layer's outputs in ONNX's layout: y (time, directions, batch, units), then the last states."""
    y, *last = onnx_states(outputs, directions, batch_first)
    y = ops.stack(ops.split(ops.flip(y, axis=1) if backwards else y, directions, axis=-1), axis=2)
    return (y if batch_first else ops.transpose(y, (1, 2, 0, 3)), *last)
