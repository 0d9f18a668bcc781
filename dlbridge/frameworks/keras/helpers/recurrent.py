"""The outputs of recurrent layers."""

from keras import ops


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
