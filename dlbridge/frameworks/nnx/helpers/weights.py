"""Weights that do not train, and batch normalisations that Flax has no layer for."""

import math

from flax import nnx


class Frozen(nnx.Variable):
    """A weight that does not train: it is not among the ``nnx.Param`` that an optimizer changes."""


def freeze(module, *names):
    """Keep weights of a module from training: those named, or all that it and the modules in it have."""
    parts = [module] if names else [part for _, part in nnx.iter_modules(module)]
    for part in parts:
        for name, value in list(vars(part).items()):
            if isinstance(value, nnx.Param) and (not names or name in names):
                setattr(part, name, Frozen(value[...]))


class UnbiasedBatchNorm(nnx.BatchNorm):
    """Batch normalisation whose running variance is n / (n - 1) of the batch's, as PyTorch keeps it."""

    def __call__(self, x, use_running_average=None):
        frozen = self.use_running_average if use_running_average is None else use_running_average
        if frozen:
            return super().__call__(x, use_running_average=True)
        before = self.var[...]
        y = super().__call__(x, use_running_average=False)
        count = math.prod(x.shape) // x.shape[self.axis]
        kept = self.momentum * before
        self.var[...] = kept + (self.var[...] - kept) * count / (count - 1)
        return y


class FrozenBatchNorm(nnx.BatchNorm):
    """Batch normalisation by the running statistics, in training too, which stay as they are."""

    def __call__(self, x, use_running_average=None):
        return super().__call__(x, use_running_average=True)
