"""The functions by which formulas of training are computed: NumPy's, on JAX's arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from dlbridge.training.numpy_ops import NumpyOps


class _JaxOps(NumpyOps):
    log_softmax, sigmoid = staticmethod(jax.nn.log_softmax), staticmethod(jax.nn.sigmoid)
    logsumexp = staticmethod(jax.scipy.special.logsumexp)  # type: ignore[assignment]

    def abs(self, x: Any) -> Any:
        """The size of a number, whose derivative at 0 is 0; JAX' own has 1 there."""
        return x * jax.lax.stop_gradient(jnp.sign(x))


OPS = _JaxOps(jnp)
