"""The Ray cluster that work is spread over."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import ray

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is begun here tells nobody of it


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Be connected to a cluster: the one that this process is connected to already, the one that ``RAY_ADDRESS``
    names, or else one of this machine, which ends with the block."""
    if ray.is_initialized():
        yield
        return
    ray.init(log_to_driver=False, logging_level=logging.WARNING)
    try:
        yield
    finally:
        ray.shutdown()
