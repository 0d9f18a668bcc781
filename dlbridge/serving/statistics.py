"""What a served version has done so far: counts and times, as Triton's statistics extension has them."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

#: Bounds of the latency histogram, in seconds.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass
class Duration:
    """How often, and for how many nanoseconds in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns


@dataclass
class Statistics:
    """Of one version of a model.

    Attributes:
        inferences: Rows that were run (requests, of a model without batches).
        executions: Runs of the model.
        last: When the last request was answered, in milliseconds since 1970.
        success: From the arrival of a request to its answer.
        fail: The same, of requests that were answered with an error.
        queue: Time in the queue.
        compute_input: Time for making arrays.
        compute_infer: Time in onnxruntime.
        compute_output: Time for making bytes.
        batches: Rows of a run -> its times (input, infer, output).
        rejected: Requests that the full queue refused.
        cancelled: Requests that were withdrawn.
        latencies: Answered requests by the bucket of their latency.
    """

    inferences: int = 0
    executions: int = 0
    last: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, tuple[Duration, Duration, Duration]] = field(
        default_factory=lambda: defaultdict(lambda: (Duration(), Duration(), Duration()))
    )
    rejected: int = 0
    cancelled: int = 0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))

    def executed(self, rows: int, times: tuple[int, int, int]) -> None:
        """Count a run of so many rows."""
        self.executions += 1
        self.inferences += rows
        for duration, ns in zip(self.batches[rows], times, strict=True):
            duration.add(ns)

    def answered(self, queued: int, total: int, times: tuple[int, int, int]) -> None:
        """Count a request that was answered, with its times in ns."""
        self.last = time.time_ns() // 1_000_000
        self.queue.add(queued)
        self.compute_input.add(times[0])
        self.compute_infer.add(times[1])
        self.compute_output.add(times[2])
        self.success.add(total)
        self.latencies[bisect_left(BUCKETS, total / 1e9)] += 1

    def failed(self, total: int) -> None:
        """Count a request that was answered with an error."""
        self.fail.add(total)
