"""Helpers of control flow."""

from dlbridge.source.arrays import ops


def loop(body, limit, states, condition=True, empty=()):
    """Runs body(i, condition, *states) -> (condition, *states, *outputs) up to limit times, while the condition holds.

    Gives the last states, and the outputs of all rounds stacked; where there is no round, empty. It runs eagerly: the
    rounds are counted as they come.
    """
    rounds, i = [], 0
    while ops.convert_to_numpy(condition).all() and (limit is None or i < limit):
        given = ops.convert_to_tensor(i, dtype="int64"), ops.convert_to_tensor(condition, dtype="bool")
        condition, *results = body(*given, *states)
        states, i = results[: len(states)], i + 1
        rounds.append(results[len(states) :])
    stacked = (ops.stack(outputs) for outputs in zip(*rounds, strict=True))
    return (*states, *(stacked if rounds else empty))


def loop_counted(body, count, states, empty=()):
    """As loop, for a number of rounds that is known and a condition that always holds."""
    rounds = []
    for i in range(count):
        given = ops.convert_to_tensor(i, dtype="int64"), ops.convert_to_tensor(True, dtype="bool")
        _, *results = body(*given, *states)
        states = results[: len(states)]
        rounds.append(results[len(states) :])
    stacked = (ops.stack(outputs) for outputs in zip(*rounds, strict=True))
    return (*states, *(stacked if rounds else empty))


def loop_while(body, limit, states, condition=True):
    """As loop, of a body without outputs, whose states keep their shapes."""

    def goes_on(i, condition, *states):
        return condition if limit is None else ops.logical_and(condition, i < ops.cast(limit, "int64"))

    def step(i, condition, *states):
        condition, *states = body(i, condition, *states)
        return (i + 1, ops.reshape(condition, ()), *states)

    condition = ops.reshape(ops.convert_to_tensor(condition, dtype="bool"), ())
    return ops.while_loop(goes_on, step, (ops.convert_to_tensor(0, dtype="int64"), condition, *states))[2:]


def scan(body, states, inputs, axes=None, backwards=None, output_axes=None, output_backwards=None):
    """Runs body(*states, *slices) -> (*states, *outputs) over the slices of the inputs; as loop, it stacks outputs."""
    axes, backwards = axes or [0] * len(inputs), backwards or [0] * len(inputs)
    inputs = [ops.moveaxis(x, axis, 0) for x, axis in zip(inputs, axes, strict=True)]
    inputs = [ops.flip(x, axis=0) if back else x for x, back in zip(inputs, backwards, strict=True)]

    length, count = ops.shape(inputs[0])[0], len(states)
    first = body(*states, *(x[0] for x in inputs))
    rooms = [ops.zeros((length, *ops.shape(y)), dtype=y.dtype) for y in first[count:]]

    def put(i, rooms, outputs):
        at = ops.reshape(i, (1, 1))
        return [ops.scatter_update(r, at, ops.expand_dims(y, 0)) for r, y in zip(rooms, outputs, strict=True)]

    def step(i, *values):
        results = body(*values[:count], *(ops.take(x, i, axis=0) for x in inputs))
        return (i + 1, *results[:count], *put(i, values[count:], results[count:]))

    start = (ops.convert_to_tensor(1, dtype="int32"), *first[:count], *put(0, rooms, first[count:]))
    _, *values = ops.while_loop(lambda i, *_: i < length, step, start)
    states, outputs = values[:count], values[count:]
    stacked = []
    for i, output in enumerate(outputs):
        output = ops.flip(output, axis=0) if output_backwards and output_backwards[i] else output
        stacked.append(ops.moveaxis(output, 0, output_axes[i]) if output_axes else output)
    return (*states, *stacked)
