"""Prefetching: makes items in threads before they are asked for, and gives them in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Made = TypeVar("Made")


def made_ahead(parts: Iterable[Part], make: Callable[[Part], Made], workers: int) -> Iterator[Made]:
    """What ``make`` makes of each part, in their order.

    Args:
        parts: What things are made of; they are asked for one after the other, by the thread that reads.
        make: Called in the threads.
        workers: The number of threads; each is at most two things ahead. With 0, things are made when they are read.
    """
    if not workers:
        yield from map(make, parts)
        return
    with ThreadPoolExecutor(workers, "dlbridge-data") as threads:
        pending: deque[Future[Made]] = deque()
        try:
            for part in parts:
                pending.append(threads.submit(make, part))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
