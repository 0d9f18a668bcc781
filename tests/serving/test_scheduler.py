"""The queue: what is joined, in which order, who waits how long, and who is refused."""

import asyncio

import numpy as np
import pytest
from google.protobuf import text_format

from dlbridge.repository.config import ModelConfig
from dlbridge.serving.problems import ServingError
from dlbridge.serving.scheduler import Scheduler
from dlbridge.serving.statistics import Statistics
from dlbridge.serving.tensors import from_array, to_array


class Worker:
    """Notes what it is sent, and answers when it is told to: with what came."""

    def __init__(self):
        self.runs = []

    def run(self, runs):
        self.runs += runs

    @property
    def rows(self):
        """The first number of each row of each run."""
        return [to_array(inputs[0][1])[:, 0].tolist() for inputs, _, _ in self.runs]

    def answer(self, place=0):
        inputs, _, answer = self.runs[place]
        answer(inputs, (1, 1, 1), None)


def scheduler(config):
    found = Scheduler(
        text_format.Parse(f"max_batch_size: 8 instance_group {{ count: 1 }} {config}", ModelConfig()), Statistics()
    )
    worker = Worker()
    found.connect(worker)
    return found, worker


def ask(queue, number, rows=1, sizes=3, **options):
    """Queue a request; returns the list that gets its answer."""
    got = []
    x = np.full((rows, sizes), number, np.float32)
    queue.submit([("x", from_array(x))], None, rows, got.append, **options)
    return got


def running(test):
    """A test that runs in an event loop."""

    def run():
        asyncio.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def turn(seconds=0.0):
    await asyncio.sleep(seconds)


@running
async def test_requests_of_one_shape_are_joined_and_others_wait_for_their_turn():
    queue, worker = scheduler("dynamic_batching { }")
    answers = [ask(queue, i, sizes=3 if i != 2 else 4) for i in range(5)]
    await turn()
    assert worker.rows == [[0, 1, 3, 4], [2]]
    worker.answer()
    assert [to_array(a[0].outputs[0][1])[0, 0] for a in answers if a] == [0, 1, 3, 4]


@running
async def test_a_batch_has_no_more_rows_than_the_model_takes():
    queue, worker = scheduler("dynamic_batching { }")
    for i, rows in enumerate((3, 4, 2, 8)):
        ask(queue, i, rows)
    await turn()
    assert [len(rows) for rows in worker.rows] == [7, 2]
    worker.answer()
    assert [len(rows) for rows in worker.rows] == [7, 2, 8]


@running
async def test_a_batch_waits_for_the_size_that_is_preferred_or_for_its_time():
    queue, worker = scheduler("dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 100000 }")
    for i in range(3):
        ask(queue, i)
    await turn()
    assert not worker.rows
    ask(queue, 3)
    await turn()
    assert worker.rows == [[0, 1, 2, 3]]
    ask(queue, 4)
    await turn(0.02)
    assert len(worker.rows) == 1
    await turn(0.2)
    assert worker.rows[1:] == [[4]]


PRIORITIES = "priority_levels: 3 default_priority_level: 2"


@running
async def test_priorities():
    queue, worker = scheduler(f"dynamic_batching {{ {PRIORITIES} }}")
    queue.disconnect()
    for i, level in enumerate((3, 2, 1, 0, 1)):
        ask(queue, i, rows=8, priority=level)
    queue.connect(worker)
    for place in range(4):
        worker.answer(place)
    assert [rows[0] for rows in worker.rows] == [2, 4, 1, 3, 0]  # 0 says nothing: it is level 2


@running
async def test_a_full_queue_refuses_and_says_when_to_come_again():
    queue, worker = scheduler("dynamic_batching { default_queue_policy { max_queue_size: 2 } }")
    queue.disconnect()
    kept = [ask(queue, i) for i in range(2)]
    with pytest.raises(ServingError) as caught:
        ask(queue, 2)
    assert caught.value.status.http == 429 and caught.value.retry_after
    with pytest.raises(ServingError):
        queue.check_room()
    queue.connect(worker)
    worker.answer()
    assert all(len(a) == 1 for a in kept)
    queue.check_room()


@running
async def test_a_request_that_is_late_is_refused():
    queue, worker = scheduler("dynamic_batching { default_queue_policy { allow_timeout_override: true } }")
    queue.disconnect()
    late, patient = ask(queue, 0, timeout=10_000), ask(queue, 1)
    await turn(0.05)
    assert late[0].status.http == 504
    queue.connect(worker)
    assert worker.rows == [[1]]
    worker.answer()
    assert len(patient) == 1 and len(late) == 1


@running
async def test_a_request_that_is_late_may_go_behind_the_others():
    policy = "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 10000 }"
    queue, worker = scheduler(f"dynamic_batching {{ {policy} }}")
    queue.disconnect()
    ask(queue, 0, rows=8)
    await turn(0.05)
    ask(queue, 1, rows=8)
    queue.connect(worker)
    worker.answer()
    assert [rows[0] for rows in worker.rows] == [1, 0]


@running
async def test_what_is_withdrawn_is_not_run():
    queue, worker = scheduler("dynamic_batching { }")
    queue.disconnect()
    got = []
    pending = queue.submit([("x", from_array(np.zeros((1, 3), np.float32)))], None, 1, got.append)
    ask(queue, 1)
    queue.withdraw(pending)
    queue.connect(worker)
    assert worker.rows == [[1]] and not got


@running
async def test_what_is_withdrawn_leaves_its_place_to_others():
    queue, _ = scheduler("dynamic_batching { default_queue_policy { max_queue_size: 2 } }")
    queue.disconnect()
    x = [("x", from_array(np.zeros((1, 3), np.float32)))]
    gone = [queue.submit(x, None, 1, print) for _ in range(2)]
    with pytest.raises(ServingError, match="full"):
        ask(queue, 1)
    for pending in gone:
        queue.withdraw(pending)
        queue.withdraw(pending)
    ask(queue, 1)
    assert queue.waiting == 1


@running
async def test_a_slow_model_is_not_sent_more_than_it_is_at_and_one_ahead():
    """What is sent can no longer be withdrawn; of quick models more goes in a frame."""
    for nanoseconds, most in ((5_000_000_000, 2), (1, 9)):
        queue, worker = scheduler("")
        for i in range(20):
            ask(queue, i)
        await turn()
        assert len(worker.runs) == 2
        worker.runs[0][2](worker.runs[0][0], (1, nanoseconds, 1), None)
        await turn()
        assert len(worker.runs) - 1 == most


@running
async def test_of_a_batch_that_fails_each_is_run_by_itself():
    """One of them is to blame; the others get their answers."""
    queue, worker = scheduler("dynamic_batching { }")
    answers = [ask(queue, i) for i in range(3)]
    await turn()
    worker.runs[0][2]([], (), ServingError("one of them"))
    assert worker.rows[1:] == [[0], [1], [2]]
    worker.runs[2][2]([], (), ServingError("this one"))
    worker.answer(1)
    worker.answer(3)
    assert [isinstance(a[0], ServingError) for a in answers] == [False, True, False]


@running
async def test_a_model_that_mixes_rows_is_not_believed():
    queue, worker = scheduler("dynamic_batching { }")
    answers = [ask(queue, i) for i in range(2)]
    await turn()
    worker.runs[0][2]([("y", from_array(np.zeros((1, 3), np.float32)))], (1, 1, 1), None)
    assert all(a[0].status.http == 500 and "2 rows" in str(a[0]) for a in answers)
