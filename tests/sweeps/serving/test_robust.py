"""A server under more than it can do, while models change, and when what it runs is killed (``make serving``).

Each is asked over HTTP and over gRPC.
"""

import asyncio
import json
import os
import signal
import threading
import time
from collections import Counter

import grpc
import numpy as np
import pytest
from tests.helpers.serving import heavy, start, worker_of, write_entry

from dlbridge.repository import messages
from dlbridge.runtime import load as load_session
from dlbridge.serving import load
from dlbridge.serving.tensors import from_array

pytestmark = pytest.mark.slow
#: Seconds of the soak.
SOAK = float(os.environ.get("DLBRIDGE_SOAK_SECONDS", "60"))


def memory(pid: int) -> int:
    """Resident memory of a process, in KiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


class Http:
    """Clients of HTTP."""

    def __init__(self, running, rows):
        arrays = load.sample(load_session(running.repository / "model").inputs, rows)
        self._port, self._message = running.port, load.request("model", arrays)

    def apply(self, clients, seconds, rate=None):
        """Ask with so many clients for so long, as fast as it answers or so many times a second."""
        return asyncio.run(load.apply("127.0.0.1", self._port, self._message, clients, seconds, rate))


class Grpc:
    """Clients of gRPC, each on a connection of its own."""

    def __init__(self, running, rows):
        arrays = load.sample(load_session(running.repository / "model").inputs, rows)
        asked = messages.ModelInferRequest(model_name="model")
        for name, array in arrays.items():
            tensor = from_array(array)
            asked.inputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
            asked.raw_input_contents.append(bytes(tensor.data))
        self._address, self._message = f"127.0.0.1:{running.grpc_port}", asked.SerializeToString()
        self.codes, self.refused = Counter(), []

    def apply(self, clients, seconds, rate=None):
        """As of :class:`Http`; a refusal must say when to come again."""
        return asyncio.run(self._apply(clients, seconds, 0.0 if rate is None else clients / rate))

    async def _apply(self, clients, seconds, interval):
        latencies, failures = [], Counter()
        begin = time.perf_counter()

        async def client(number):
            options = [("grpc.channel_id", number), ("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(self._address, options=options) as channel:
                call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
                while (begun := time.perf_counter()) < begin + seconds:
                    try:
                        await call(self._message, timeout=30)
                        latencies.append(time.perf_counter() - begun)
                    except grpc.aio.AioRpcError as error:
                        if "failed to connect" in error.details():
                            return  # the server has ended
                        failures[error.code().name] += 1
                        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                            assert dict(error.trailing_metadata())["retry-after"]
                            self.refused.append(time.perf_counter() - begun)
                    await asyncio.sleep(max(0.0, begun + interval - time.perf_counter()))

        await asyncio.gather(*(client(n) for n in range(clients)))
        self.codes += failures
        return load.Load(time.perf_counter() - begin, sorted(latencies), failures.total())


@pytest.fixture(params=[Http, Grpc])
def clients(request):
    return request.param


@pytest.fixture
def running(tmp_path):
    config = "dynamic_batching { default_queue_policy { max_queue_size: 8 } } max_batch_size: 8192"
    write_entry(tmp_path, "model", config)
    running = start(tmp_path, "--poll", "1")
    yield running
    assert running.stop() == 0


def test_overload_is_told_and_what_is_taken_is_done(tmp_path, clients):
    heavy(tmp_path / "model" / "1" / "model.onnx")
    (tmp_path / "model" / "config.pbtxt").write_text(
        "max_batch_size: 64 dynamic_batching { default_queue_policy { max_queue_size: 16 } }"
    )
    running = start(tmp_path)
    asking = clients(running, 8)
    asking.apply(8, 2.0)
    ratios = []
    for _ in range(3):  # the machine may have other work: what is compared is measured side by side
        capacity = asking.apply(8, 4.0)
        assert not capacity.failures
        overloaded = asking.apply(64, 4.0, rate=3 * capacity.throughput)
        assert overloaded.failures
        ratios.append(overloaded.throughput / capacity.throughput)
        print(
            f"capacity {capacity.throughput:.0f}/s, at three times that {overloaded.throughput:.0f}/s and "
            f"{overloaded.failures / overloaded.seconds:.0f}/s refused, p99 {1000 * overloaded.percentile(99):.0f} ms"
        )
    assert running.stop() == 0
    assert max(ratios) > 0.9
    if isinstance(asking, Grpc):
        print(
            f"{dict(asking.codes)}, half of the refusals within {1000 * sorted(asking.refused)[len(asking.refused) // 2]:.1f} ms"
        )
        assert set(asking.codes) == {"RESOURCE_EXHAUSTED"}


def test_a_soak_with_reloads(running, clients):
    stop, problems = threading.Event(), []

    def reload():
        version = 1
        while not stop.wait(5.0):
            version += 1
            write_entry(running.repository, "model", version=version)

    reloading = threading.Thread(target=reload)
    reloading.start()
    sizes, files, answered = [], [], 0
    asking = clients(running, 64)
    capacity = asking.apply(4, 5.0).throughput
    end = time.monotonic() + SOAK
    while time.monotonic() < end:
        found = asking.apply(4, 10.0, rate=0.8 * capacity)
        answered += len(found.latencies)
        problems.append(found.failures)
        sizes.append(memory(running.process.pid))
        files.append(len(os.listdir(f"/proc/{running.process.pid}/fd")))
    stop.set()
    reloading.join()
    print(
        f"{answered} answered at 80% of {capacity:.0f}/s, {sum(problems)} failed, "
        f"memory {sizes[0]} -> {sizes[-1]} KiB (at most {max(sizes)}), open files {files[0]} -> {files[-1]}"
    )
    assert not sum(problems)
    assert sizes[-1] < 1.05 * sizes[min(3, len(sizes) - 1)] + 4096
    assert files[-1] <= files[0] + 8


def test_a_killed_worker_under_load(running, clients):
    load_of = clients(running, 64)
    found = []
    asking = threading.Thread(target=lambda: found.append(load_of.apply(4, 8.0)))
    asking.start()
    for _ in range(3):
        time.sleep(1.5)
        os.kill(worker_of(running), signal.SIGKILL)
    asking.join()
    print(f"{len(found[0].latencies)} answered, {found[0].failures} told to ask again")
    assert found[0].failures <= 3 * (4 + 8)
    assert running.infer("model", np.ones((1, 3)))[0] == 200


def test_no_request_that_was_taken_is_lost_at_the_end(tmp_path, clients):
    write_entry(tmp_path / "repository", "model", "max_batch_size: 8192 dynamic_batching { }")
    log = tmp_path / "log"
    running = start(tmp_path / "repository", "--log-requests", "--log-format", "json", log=log)
    load_of = clients(running, 64)
    found = []
    asking = threading.Thread(target=lambda: found.append(load_of.apply(16, 6.0)))
    asking.start()
    time.sleep(3.0)
    assert running.stop() == 0
    asking.join()
    told = [json.loads(line) for line in log.read_text().splitlines()]
    statuses = Counter(line["status"] for line in told if line["message"] == "request")
    print(f"{len(found[0].latencies)} answered, {found[0].failures} told to ask another, {dict(statuses)} in the log")
    assert statuses["OK"] == len(found[0].latencies) > 100
    assert not found[0].failures and set(statuses) == {"OK"}
