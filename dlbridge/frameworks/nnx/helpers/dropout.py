"""Layers that draw random numbers in training, and hand on what they are given elsewhere."""

import jax
import jax.numpy as jnp
from flax import nnx


class GaussianDropout(nnx.Dropout):
    """Multiplies by random numbers around 1, with the variance that dropout of this rate has."""

    def __call__(self, x):
        if self.deterministic or self.rate == 0:
            return x
        deviation = (self.rate / (1 - self.rate)) ** 0.5
        return x * (1 + deviation * jax.random.normal(self.rngs(), x.shape, x.dtype))


class GaussianNoise(nnx.Dropout):
    """Adds random numbers around 0; the rate is their standard deviation."""

    def __call__(self, x):
        return x if self.deterministic else x + self.rate * jax.random.normal(self.rngs(), x.shape, x.dtype)


class AlphaDropout(nnx.Dropout):
    """Dropout that keeps mean and variance of what SELU gives (Klambauer et al., 2017)."""

    def __call__(self, x):
        if self.deterministic or self.rate == 0:
            return x
        least = -1.7580993408473766
        shape = [1 if axis in self.broadcast_dims else size for axis, size in enumerate(x.shape)]
        kept = jax.random.bernoulli(self.rngs(), 1 - self.rate, shape)
        scale = ((1 - self.rate) * (1 + self.rate * least**2)) ** -0.5
        return scale * jnp.where(kept, x, least) - scale * least * self.rate
