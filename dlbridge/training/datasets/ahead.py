"""Prefetching: makes items in threads before they are asked for, and gives them in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Made = TypeVar("Made")


def made_ahead(parts: Iterable[Part], make: Callable[[Part], Made], workers: int) -> Iterator[Made]:
    """Yield ``make(part)`` for each part, in order, computed in threads before it is asked for.

    Args:
        parts: The arguments of ``make``; the reading thread takes them one after the other.
        make: Called in the threads.
        workers: The number of threads; each is at most two results ahead. With 0, a result is made when it is read.
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
