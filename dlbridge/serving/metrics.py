"""Statistics for people's tools: Prometheus' text, and the JSON and messages of the statistics extension.

The metrics have the names that Triton gives them, so that dashboards made for it go on working.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from dlbridge.serving.service import Service
from dlbridge.serving.statistics import BUCKETS, Duration, Statistics
from dlbridge.serving.versions import ServedVersion

_PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


class _Collector:
    def __init__(self, service: Service) -> None:
        self.service = service

    def collect(self) -> Iterator[Metric]:
        """The metrics of all versions that are ready."""
        labels = ["model", "version"]
        counters = {name: CounterMetricFamily(name, help_text, labels=labels) for name, help_text, _ in _COUNTERS}
        latency = HistogramMetricFamily(
            "nv_inference_request_latency_seconds", "From the arrival of a request to its answer", labels=labels
        )
        waiting = GaugeMetricFamily("nv_inference_pending_request_count", "Requests in the queue", labels=labels)
        for version in self.service.versions():
            values = [version.name, str(version.version)]
            for name, _, value in _COUNTERS:
                counters[name].add_metric(values, value(version.statistics))
            buckets, total = [], 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), version.statistics.latencies, strict=True):
                total += count
                buckets.append((bound, total))
            latency.add_metric(values, buckets, version.statistics.success.ns / 1e9)
            waiting.add_metric(values, version.scheduler.waiting)
        yield from counters.values()
        yield latency
        yield waiting


def _micro(duration: Duration) -> float:
    return duration.ns / 1000


#: (name, help, what it counts).
_COUNTERS: tuple[tuple[str, str, Any], ...] = (
    ("nv_inference_request_success", "Requests that were answered", lambda s: s.success.count),
    ("nv_inference_request_failure", "Requests that were answered with an error", lambda s: s.fail.count),
    ("nv_inference_request_rejected", "Requests that a full queue refused", lambda s: s.rejected),
    ("nv_inference_count", "Rows that were run", lambda s: s.inferences),
    ("nv_inference_exec_count", "Runs of the model", lambda s: s.executions),
    ("nv_inference_request_duration_us", "From arrival to answer", lambda s: _micro(s.success)),
    ("nv_inference_queue_duration_us", "In the queue", lambda s: _micro(s.queue)),
    ("nv_inference_compute_input_duration_us", "Making arrays", lambda s: _micro(s.compute_input)),
    ("nv_inference_compute_infer_duration_us", "In onnxruntime", lambda s: _micro(s.compute_infer)),
    ("nv_inference_compute_output_duration_us", "Making bytes", lambda s: _micro(s.compute_output)),
)


def exposition(service: Service) -> bytes:
    """All metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Collector(service))  # type: ignore[arg-type]
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def to_json(version: ServedVersion) -> dict[str, Any]:
    """The statistics of a version, as the extension has them."""
    found: Statistics = version.statistics
    return {
        "name": version.name,
        "version": str(version.version),
        "last_inference": found.last,
        "inference_count": found.inferences,
        "execution_count": found.executions,
        "inference_stats": {part: _duration(getattr(found, part)) for part in _PARTS},
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(times[0]),
                "compute_infer": _duration(times[1]),
                "compute_output": _duration(times[2]),
            }
            for rows, times in sorted(found.batches.items())
        ],
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}
