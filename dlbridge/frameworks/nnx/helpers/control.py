"""Control flow."""

import jax
import jax.numpy as jnp


def scan(body, states, inputs, axes=None, backwards=None, output_axes=None, output_backwards=None):
    """Runs body(*states, *slices) -> (*states, *outputs) over the slices of the inputs; outputs are stacked."""
    axes, backwards = axes or [0] * len(inputs), backwards or [0] * len(inputs)
    inputs = [jnp.moveaxis(x, axis, 0) for x, axis in zip(inputs, axes, strict=True)]
    inputs = [jnp.flip(x, 0) if back else x for x, back in zip(inputs, backwards, strict=True)]

    def step(states, slices):
        results = body(*states, *slices)
        return tuple(results[: len(states)]), tuple(results[len(states) :])

    states = tuple(jnp.asarray(state, jnp.result_type(state)) for state in states)  # no int64 where JAX makes none
    states, outputs = jax.lax.scan(step, states, tuple(inputs))
    stacked = []
    for i, output in enumerate(outputs):
        output = jnp.flip(output, 0) if output_backwards and output_backwards[i] else output
        stacked.append(jnp.moveaxis(output, 0, output_axes[i]) if output_axes else output)
    return (*states, *stacked)
