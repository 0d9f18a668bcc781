"""Regularizers, which add to the loss, and constraints, which change a weight after a step (``ops.regularization``)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from dlbridge.frameworks.nnx.training_ops import OPS
from dlbridge.ops.regularization import EPSILON
from dlbridge.source.regularized import Regularized


def penalty(regularized: Regularized, w: Any) -> Any:
    """What is added to the loss."""
    added = regularized.penalty
    if added is None:
        return 0.0
    return added.l1 * OPS.abs(w).sum() + added.l2 * jnp.square(w).sum()


def limited(regularized: Regularized, w: Any) -> Any:
    """The weight, made to fulfil its limit."""
    kept = regularized.limit
    if kept is None:
        return w
    if regularized.groups is None:
        return jnp.maximum(w, 0)
    groups = regularized.groups.reshape(-1)
    sums = jnp.zeros(int(groups.max()) + 1, w.dtype).at[groups].add(jnp.square(w).reshape(-1))
    norms = jnp.sqrt(sums)[groups].reshape(w.shape)
    wanted = kept.rate * jnp.clip(norms, kept.low, kept.high) + (1 - kept.rate) * norms
    return w * (wanted / (norms + EPSILON))
