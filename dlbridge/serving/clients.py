"""Looks, while an answer is being made, whether its client is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

from dlbridge.serving.problems import ServingError, Status

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
#: Seconds after which a request that has no answer yet is withdrawn when its client is gone.
_WATCH_AFTER = 0.1
_GONE = "gone"
_T = TypeVar("_T")


async def unless_gone(work: Awaitable[_T], receive: Receive) -> _T:
    """Wait for an answer; where it takes long, look whether the client is still there, and withdraw otherwise.

    Args:
        work: What makes the answer.
        receive: What ASGI tells of the client, which has sent its whole request.

    Raises:
        ServingError: When the client is gone.
    """
    loop = asyncio.get_running_loop()
    mine = asyncio.current_task()
    watching: list[asyncio.Task[None]] = []

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if mine is not None:
            mine.cancel(_GONE)

    timer = loop.call_later(_WATCH_AFTER, lambda: watching.append(loop.create_task(watch())))
    try:
        return await work
    except asyncio.CancelledError as error:
        if error.args == (_GONE,):
            raise ServingError("the client went away", Status.CANCELLED) from None
        raise
    finally:
        timer.cancel()
        for task in watching:
            task.cancel()
