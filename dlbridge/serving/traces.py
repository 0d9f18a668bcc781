"""Traces of requests, by OpenTelemetry."""

from __future__ import annotations

import functools
import os
import time
from typing import Any

from dlbridge.errors import require
from dlbridge.serving.observer import Observed, Trace, fields

#: OpenTelemetry's own variables for where traces are sent.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: The header of the W3C's Trace Context, by which a request joins the trace of its client.
TRACE_PARENT = "traceparent"


def recorder() -> Trace | None:
    """Sends traces to where OpenTelemetry's environment variables say; None where they say nothing.

    Raises:
        DlbridgeError: When OpenTelemetry is asked for and not installed.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    exporter = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", "trace")
    resources = require("opentelemetry.sdk.resources", "trace")
    sdk = require("opentelemetry.sdk.trace", "trace")
    export = require("opentelemetry.sdk.trace.export", "trace")
    name = os.environ.get("OTEL_SERVICE_NAME", "dlbridge")
    provider = sdk.TracerProvider(resource=resources.Resource.create({"service.name": name}))
    provider.add_span_processor(export.BatchSpanProcessor(exporter.OTLPSpanExporter()))
    return functools.partial(record, provider.get_tracer("dlbridge.serving"))


def record(tracer: Any, request: Observed, ended: int, error: BaseException | None) -> None:
    """Record a request that has ended: a span, and within it those of waiting in the queue and of running.

    Args:
        tracer: OpenTelemetry's tracer.
        request: The request.
        ended: When it ended, by ``time.perf_counter_ns``.
        error: Why it has no answer; None where it has one.
    """
    from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    since = time.time_ns() - time.perf_counter_ns()  # from the clock of the times to that of the traces
    parent = TraceContextTextMapPropagator().extract({TRACE_PARENT: request.trace_parent})
    told = fields(request, ended, error)
    attributes = {f"dlbridge.{name}": value for name, value in told.items() if not name.endswith("_ms")}
    span = tracer.start_span(
        f"infer {request.model}",
        context=parent,
        kind=SpanKind.SERVER,
        attributes=attributes,
        start_time=since + request.started,
    )
    if error is not None:
        span.set_status(StatusCode.ERROR, str(error))
    response = request.response
    if response is not None and response.sent:
        within = set_span_in_context(span)
        for name, start, end in (
            ("queue", response.arrived, response.sent),
            ("run", response.sent, response.answered),
        ):
            part = tracer.start_span(name, context=within, start_time=since + start)
            part.end(since + end)
    span.end(since + ended)
