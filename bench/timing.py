"""Timing that two things share, so that their ratio means something."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds(*calls: Callable[[], object], repeat: int = 7) -> list[float]:
    """The shortest time of each call over ``repeat`` rounds; a round makes every call once, in turn.

    The shortest is what the work itself costs; taking turns spreads what else the machine does over all alike.
    """
    best = [float("inf")] * len(calls)
    for _ in range(repeat):
        for index, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[index] = min(best[index], time.perf_counter() - start)
    return best
