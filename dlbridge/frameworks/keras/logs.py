"""Keeps what libraries write to their logs from the user."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_running: Counter[str] = Counter()
_levels: dict[str, int] = {}


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Within the block, a logger tells of errors alone.

    The last of the blocks that run at once gives it back its level.

    Args:
        name: The logger's name.
    """
    logger = logging.getLogger(name)
    with _lock:
        if not _running[name]:
            _levels[name] = logger.level
        _running[name] += 1
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        with _lock:
            _running[name] -= 1
            if not _running[name]:
                logger.setLevel(_levels[name])
