"""The outputs of recurrent layers."""

from keras import ops


def steps_before(x, lengths):
    """Which steps of x (batch, time, ...) are before the end of their sequence: (batch, time)."""
    return ops.expand_dims(ops.arange(ops.shape(x)[1]), 0) < ops.expand_dims(ops.cast(lengths, "int32"), 1)


def zero_behind(outputs, lengths):
    """A recurrent layer's outputs, zero behind the end of each sequence, and its states."""
    sequence, *states = outputs
    return [ops.where(ops.expand_dims(steps_before(sequence, lengths), -1), sequence, 0.0), *states]


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
