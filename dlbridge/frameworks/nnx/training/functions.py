"""The functions by which formulas of training are computed: NumPy's, on JAX's arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlbridge.training.formulas.numpy_ops import NumpyOps


class _JaxOps(NumpyOps):
    log_softmax, sigmoid = staticmethod(jax.nn.log_softmax), staticmethod(jax.nn.sigmoid)
    logsumexp = staticmethod(jax.scipy.special.logsumexp)  # type: ignore[assignment]

    def abs(self, x: Any) -> Any:
        """The size of a number, whose derivative at 0 is 0; JAX' own has 1 there."""
        return x * jax.lax.stop_gradient(jnp.sign(x))

    def group_norms(self, x: Any, groups: np.ndarray) -> Any:
        """The norm of each element's group, whose number ``groups`` has in its place."""
        sums = jax.ops.segment_sum(jnp.square(x).reshape(-1), groups.reshape(-1), int(groups.max()) + 1)
        return jnp.sqrt(sums)[groups]


OPS = _JaxOps(jnp)
