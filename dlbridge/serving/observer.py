"""Observes each request: writes a line of the log, and a trace for OpenTelemetry."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.requests import InferResponse

LOG = logging.getLogger("dlbridge.serving.requests")


class Unobserved:
    """A request that is not observed."""

    id = ""

    def __enter__(self) -> Unobserved:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended(error)

    def ended(self, error: BaseException | None) -> None:
        """Tell of it, which has its answer, or an error."""

    def answered(self, response: InferResponse) -> None:
        """Note the answer."""


UNOBSERVED = Unobserved()


class Observed(Unobserved):
    """A request that is logged and traced when it has been answered.

    Args:
        observer: Who tells it.
        protocol: ``http`` or ``grpc``.
        model: The model that is asked.
        id: The client's name of the request; "" for a new one.
        trace_parent: The trace that it belongs to; "" for one of its own.
    """

    def __init__(self, observer: Observer, protocol: str, model: str, id: str, trace_parent: str) -> None:
        self._observer = observer
        self.protocol = protocol
        self.model = model
        self.id = id or uuid.uuid4().hex
        self.trace_parent = trace_parent
        self.started = time.perf_counter_ns()
        self.response: InferResponse | None = None

    def ended(self, error: BaseException | None) -> None:
        self._observer.tell(self, time.perf_counter_ns(), error)

    def answered(self, response: InferResponse) -> None:
        self.response = response
        self.id = response.id or self.id


#: Records a request that ended at a time, by ``time.perf_counter_ns``, with an error or None.
Trace = Callable[[Observed, int, BaseException | None], None]


class Observer:
    """Tells of requests.

    Args:
        logs: Whether each request has a line in the log.
        trace: Records the trace of a request (:func:`dlbridge.serving.traces.recorder`); None for no traces.
    """

    def __init__(self, logs: bool = False, trace: Trace | None = None) -> None:
        self._logs = logs
        self._trace = trace

    def request(self, protocol: str, model: str, id: str = "", trace_parent: str = "") -> Unobserved:
        """A context manager around the work for a request (or :meth:`Unobserved.ended` says when it ends)."""
        if self._logs or self._trace is not None:
            return Observed(self, protocol, model, id, trace_parent)
        return UNOBSERVED

    def tell(self, request: Observed, ended: int, error: BaseException | None) -> None:
        """Write the line and the trace of a request that has ended.

        Args:
            request: The request.
            ended: When it ended, by ``time.perf_counter_ns``.
            error: Why it has no answer; None where it has one.
        """
        if self._logs:
            level = logging.INFO if error is None else logging.WARNING
            LOG.log(level, "request", extra={"fields": fields(request, ended, error)})
        if self._trace is not None:
            self._trace(request, ended, error)


def fields(request: Observed, ended: int, error: BaseException | None) -> dict[str, Any]:
    """What is logged of a request: times in milliseconds, ``queue_ms`` and ``run_ms`` only where it was run."""
    told: dict[str, Any] = {"id": request.id, "protocol": request.protocol, "model": request.model}
    response = request.response
    if response is not None:
        told["version"] = response.version
    told["status"] = "OK" if error is None else status_of(error).name
    told["total_ms"] = _milliseconds(ended - request.started)
    if response is not None and response.sent:
        told["queue_ms"] = _milliseconds(response.sent - response.arrived)
        told["run_ms"] = _milliseconds(response.answered - response.sent)
    if error is not None:
        told["error"] = str(error)
    return told


def status_of(error: BaseException) -> Status:
    """The kind of an error; one that is not a :class:`ServingError` is the server's own."""
    return error.status if isinstance(error, ServingError) else Status.INTERNAL


def _milliseconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)
