"""The queue of a served version: requests wait here, are joined to batches where the model allows it, and are sent."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dlbridge.repository.config import MAX_QUEUE
from dlbridge.serving.frames import Named
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.process import WorkerProcess
from dlbridge.serving.statistics import Statistics
from dlbridge.serving.tensors import join_rows, split_rows

#: Runs that are sent beyond those that a worker is at, so that it need not wait for the next.
_AHEAD = 1
#: The same of a model without dynamic batching whose last runs took less than so many ns, for each instance: they go to
#: it in one frame. What a slow model has before it can neither be withdrawn nor go to another worker.
_AHEAD_ALONE, _QUICK = 8, 1_000_000


class Answer(NamedTuple):
    """What became of a request; times by ``time.perf_counter_ns``.

    Attributes:
        outputs: The outputs that it wanted.
        arrived: When it came into the queue.
        sent: When it was sent to the worker.
        answered: When its outputs came back.
    """

    outputs: list[Named]
    arrived: int
    sent: int
    answered: int


#: Called once with what became of a request.
Finish = Callable[[Answer | ServingError], None]


@dataclass(eq=False, slots=True)
class Pending:
    """A request in the queue.

    Attributes:
        inputs: Its tensors, in the order of the model's inputs.
        outputs: Names of the outputs that it wants; None for all.
        rows: Its first size, for a model with batches; 1 otherwise.
        finish: What gets the answer.
        kind: What requests of one batch have in common; None where they are not joined.
        arrived: When it came, by ``time.perf_counter_ns``.
        sent: When it was sent to the worker; 0 while it waits.
        timer: What ends its waiting; None where it may wait for ever.
        is_over: Whether it has its answer, or nobody waits for one any more.
    """

    inputs: list[Named]
    outputs: Sequence[str] | None
    rows: int
    finish: Finish
    kind: tuple[Any, ...] | None
    arrived: int
    sent: int = 0
    timer: asyncio.TimerHandle | None = None
    is_over: bool = False

    def end(self, found: Answer | ServingError) -> None:
        """Hand over what became of it, unless it is over."""
        self.stop_timer()
        if not self.is_over:
            self.is_over = True
            self.finish(found)

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def _kind(inputs: Sequence[Named], outputs: Sequence[str] | None) -> tuple[Any, ...]:
    """What requests of one batch have in common."""
    shapes = tuple([(name, t.datatype, t.shape[1:]) for name, t in inputs])
    return shapes, None if outputs is None else tuple(outputs)


@dataclass(frozen=True)
class QueuePolicy:
    """What a level of priority does with requests (Triton's ``ModelQueuePolicy``).

    Attributes:
        size: How many may wait.
        timeout: How long one may wait, in microseconds; 0 for ever.
        is_override_allowed: Whether a request may name a shorter time.
        is_delayed: Whether a request that is late goes behind the others instead of being refused.
    """

    size: int = MAX_QUEUE
    timeout: int = 0
    is_override_allowed: bool = True
    is_delayed: bool = False

    @classmethod
    def of(cls, message: Any) -> QueuePolicy:
        return cls(
            size=message.max_queue_size or MAX_QUEUE,
            timeout=message.default_timeout_microseconds,
            is_override_allowed=message.allow_timeout_override,
            is_delayed=message.timeout_action == 1,
        )

    def allowed(self, asked: int) -> int:
        """Microseconds that a request may wait which asks for so many (0: for ever, and says nothing)."""
        allowed = self.timeout
        if asked and (not allowed or (self.is_override_allowed and asked < allowed)):
            allowed = asked
        return allowed


class Scheduler:
    """Queues the requests of one version and sends them to its worker.

    Args:
        config: The completed ``ModelConfig``.
        statistics: Where to count.
    """

    def __init__(self, config: Any, statistics: Statistics) -> None:
        self._statistics = statistics
        self._worker: WorkerProcess | None = None
        self._instances = sum(group.count for group in config.instance_group)
        self._is_batching = config.HasField("dynamic_batching")
        self._max_rows = max(config.max_batch_size, 1)
        batching = config.dynamic_batching
        self._levels = batching.priority_levels or 1
        self._default_level = batching.default_priority_level or 1
        default = QueuePolicy.of(batching.default_queue_policy) if self._is_batching else QueuePolicy()
        given = {level: QueuePolicy.of(policy) for level, policy in batching.priority_queue_policy.items()}
        self._policies = {level: given.get(level, default) for level in range(1, self._levels + 1)}
        self._queues: dict[int, deque[Pending]] = {level: deque() for level in self._policies}
        self._late: deque[Pending] = deque()
        self._delay = 1000 * batching.max_queue_delay_microseconds
        self._preferred = max(batching.preferred_batch_size, default=self._max_rows)
        self._ahead, self._pace = _AHEAD, math.inf
        self._under_way = 0
        self._is_timer_set = False
        self._is_dispatch_due = False

    # --- the worker -----------------------------------------------------------------------------------------------

    def connect(self, worker: WorkerProcess) -> None:
        """Send what waits to this worker from now on."""
        self._worker = worker
        self._under_way = 0
        self._dispatch()

    def disconnect(self) -> None:
        """Let requests wait: there is no worker."""
        self._worker = None

    def refuse_all(self, why: ServingError) -> None:
        """Answer everything that waits with an error."""
        for queue in (*self._queues.values(), self._late):
            while queue:
                self._fail(queue.popleft(), why)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._queues.values())) + len(self._late)

    async def drain(self, seconds: float) -> None:
        """Wait until nothing is queued and nothing is under way, at most so long; then refuse what is left."""
        end = time.monotonic() + seconds
        while (self.waiting or self._under_way) and time.monotonic() < end:
            await asyncio.sleep(0.005)
        self.refuse_all(ServingError("the model is being unloaded", Status.UNAVAILABLE, retry_after=1.0))

    # --- requests -------------------------------------------------------------------------------------------------

    def submit(
        self,
        inputs: list[Named],
        outputs: Sequence[str] | None,
        rows: int,
        finish: Finish,
        priority: int = 0,
        timeout: int = 0,
    ) -> Pending:
        """Queue a request.

        Args:
            inputs: Its tensors.
            outputs: Names of the outputs that it wants; None for all.
            rows: Its first size, for a model with batches; 1 otherwise.
            finish: What gets its answer, later.
            priority: Its level, 1 the highest; 0 for the model's own.
            timeout: How many microseconds it may wait; 0 for the model's own.

        Raises:
            ServingError: When the queue is full.
        """
        level = priority if 0 < priority <= self._levels else self._default_level
        policy, queue = self._policies[level], self._queues[level]
        if not self._has_room(queue, policy):
            self._refuse()
        now = time.perf_counter_ns()
        kind = _kind(inputs, outputs) if self._is_batching else None
        pending = Pending(inputs, outputs, rows, finish, kind, now)
        queue.append(pending)
        loop = asyncio.get_running_loop()
        allowed = policy.allowed(timeout)
        if allowed:
            pending.timer = loop.call_later(allowed / 1e6, self._expire, pending, queue, policy)
        if self._is_free and not self._is_dispatch_due:
            # not now: what else the sockets hold at this moment may go with it
            self._is_dispatch_due = True
            loop.call_soon(self._dispatch)
        return pending

    def withdraw(self, pending: Pending) -> None:
        """Let nobody wait for a request: it leaves its queue, and is not run if it has not been sent yet."""
        pending.stop_timer()
        is_waiting = not (pending.is_over or pending.sent)
        pending.is_over = True
        if is_waiting:
            next(queue for queue in (*self._queues.values(), self._late) if pending in queue).remove(pending)
            self._statistics.cancelled += 1

    def check_room(self) -> None:
        """Check that some queue has room.

        Raises:
            ServingError: When all are full.
        """
        for level, queue in self._queues.items():
            if self._has_room(queue, self._policies[level]):
                return
        self._refuse()

    def _has_room(self, queue: deque[Pending], policy: QueuePolicy) -> bool:
        if len(queue) >= policy.size and self._is_dispatch_due:
            self._dispatch()  # what was about to be sent does not keep others out
        return len(queue) < policy.size

    def _refuse(self) -> None:
        self._statistics.rejected += 1
        raise ServingError("its queue is full", Status.TOO_MANY, retry_after=self._retry_after())

    def _retry_after(self) -> float:
        """Seconds in which what waits now will probably have been done."""
        done = self._statistics.success
        mean = self._statistics.compute_infer.ns / max(done.count, 1) / 1e9
        return min(max(mean * self.waiting / self._instances, 0.1), 30.0)

    @property
    def _is_free(self) -> bool:
        """Whether the worker can be sent one run more."""
        return self._under_way < self._instances + self._ahead

    def _dispatch(self) -> None:
        """Send what can be sent now."""
        self._is_dispatch_due = False
        runs: list[list[Pending]] = []
        while self._worker is not None and self._is_free:
            batch = self._next_batch()
            if not batch:
                break
            self._under_way += 1
            runs.append(batch)
        if runs:
            self._send(runs)

    def _expire(self, pending: Pending, queue: deque[Pending], policy: QueuePolicy) -> None:
        """What becomes of a request that still waits at its deadline."""
        pending.timer = None
        if pending.sent or pending.is_over:
            return
        queue.remove(pending)
        if policy.is_delayed:
            self._late.append(pending)
            self._dispatch()
            return
        self._fail(pending, ServingError("it waited longer than it was allowed to", Status.LATE))

    def _next_batch(self) -> list[Pending]:
        """The requests that go into the next run; none where it pays to wait for more."""
        queue = next((queue for queue in (*self._queues.values(), self._late) if queue), None)
        if queue is None:
            return []
        if not self._is_batching:
            return [queue.popleft()]
        batch, rows = self._joinable(queue)
        age = time.perf_counter_ns() - queue[0].arrived
        if rows < self._preferred and age < self._delay:
            self._wait(self._delay - age)
            return []
        for pending in batch:
            queue.remove(pending)
        return batch

    def _joinable(self, queue: deque[Pending]) -> tuple[list[Pending], int]:
        """The first request and those behind it that can go with it, and their rows."""
        batch: list[Pending] = []
        rows, kind = 0, queue[0].kind
        for pending in queue:
            if pending.kind != kind:
                continue
            if batch and rows + pending.rows > self._max_rows:
                break
            batch.append(pending)
            rows += pending.rows
            if rows >= self._max_rows:
                break
        return batch, rows

    def _wait(self, nanoseconds: int) -> None:
        if not self._is_timer_set:
            self._is_timer_set = True
            asyncio.get_running_loop().call_later(nanoseconds / 1e9, self._waited)

    def _waited(self) -> None:
        self._is_timer_set = False
        self._dispatch()

    def _send(self, batches: list[list[Pending]]) -> None:
        assert self._worker is not None
        now = time.perf_counter_ns()
        runs = []
        for batch in batches:
            for pending in batch:
                pending.sent = now
                pending.stop_timer()
            inputs = batch[0].inputs if len(batch) == 1 else list(_joined(batch))
            runs.append((inputs, batch[0].outputs, lambda o, t, e, batch=batch: self._answered(batch, o, t, e)))
        self._worker.run(runs)

    def _answered(
        self, batch: list[Pending], outputs: list[Named], times: Sequence[int], error: ServingError | None
    ) -> None:
        self._under_way -= 1
        if error is not None and len(batch) > 1 and error.status is Status.INVALID and self._worker is not None:
            # one of them is to blame, the others are not
            self._under_way += len(batch)
            self._send([[pending] for pending in batch])
            return
        rows = sum(pending.rows for pending in batch)
        if error is None and len(batch) > 1:
            error = _not_by_rows(outputs, rows)
        if error is not None:
            for pending in batch:
                self._fail(pending, error)
        else:
            self._statistics.executed(rows, tuple(times))  # type: ignore[arg-type]
            if not self._is_batching:
                self._pace = min(times[1], 2 * self._pace)  # a run that was held up says little
                self._ahead = _AHEAD_ALONE * self._instances if self._pace < _QUICK else _AHEAD
            now = time.perf_counter_ns()
            for pending, own in zip(batch, _split(batch, outputs), strict=True):
                self._statistics.answered(pending.sent - pending.arrived, now - pending.arrived, tuple(times))  # type: ignore[arg-type]
                pending.end(Answer(own, pending.arrived, pending.sent, now))
        self._dispatch()

    def _fail(self, pending: Pending, error: ServingError) -> None:
        self._statistics.failed(time.perf_counter_ns() - pending.arrived)
        pending.end(error)


def _joined(batch: Sequence[Pending]) -> Iterator[Named]:
    for place, (name, _) in enumerate(batch[0].inputs):
        yield name, join_rows([pending.inputs[place][1] for pending in batch])


def _not_by_rows(outputs: Sequence[Named], rows: int) -> ServingError | None:
    """What is wrong with the outputs of a batch that has so many rows: each must have as many."""
    for name, tensor in outputs:
        if tensor.shape[:1] != (rows,):
            what = f"output '{name}' of a batch of {rows} rows has the shape {list(tensor.shape)}"
            return ServingError(what, Status.INTERNAL, hint="a model that mixes rows cannot have dynamic_batching")
    return None


def _split(batch: Sequence[Pending], outputs: list[Named]) -> list[list[Named]]:
    """The outputs of a run, for each of its requests."""
    if len(batch) == 1:
        return [outputs]
    rows = [pending.rows for pending in batch]
    parts = [(name, split_rows(tensor, rows)) for name, tensor in outputs]
    return [[(name, pieces[i]) for name, pieces in parts] for i in range(len(batch))]
