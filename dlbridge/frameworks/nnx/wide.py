"""Turns on 64-bit types in JAX, which are off by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def wide() -> Iterator[None]:
    """Let JAX have types of 64 bits, on the CPU, in this thread."""
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        yield
