"""Random numbers."""

import jax
import numpy as np


def random_key(seed=None):
    """A key of a seed, or a new one each time."""
    return jax.random.key(np.random.randint(2**31) if seed is None else seed)
