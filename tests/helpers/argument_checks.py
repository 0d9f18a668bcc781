"""A forward that checks its input with ``assert``: in a file of its own, as pytest rewrites those of tests."""

import warnings

import torch


def asserts_numbers(self, x):
    assert not torch.isnan(x).any() and (x < 1e6).all(), "numbers"
    assert bool((x > -1e6).all())
    if (x > 1e9).any() or x is None:
        raise ValueError
    if (x > 1e3).any():
        warnings.warn("large", stacklevel=1)
    if x.isfinite().all():
        x = x + 1
    else:
        raise ValueError
    return x.cos()
