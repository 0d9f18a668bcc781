"""Tensors that a client leaves in shared memory."""

from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest

BASE = "/v2/systemsharedmemory"


@pytest.fixture
def memory():
    memory = SharedMemory(create=True, size=64)
    yield memory
    memory.close()
    memory.unlink()


def test_inputs_and_outputs_in_shared_memory(server, memory):
    x = np.array([[1, 2, 3]], np.float32)
    memory.buf[: x.nbytes] = x.tobytes()
    register = {"key": memory.name, "offset": 0, "byte_size": 64}
    assert server.ask("POST", f"{BASE}/region/mine/register", register)[0] == 200
    assert server.ask("GET", f"{BASE}/status")[1] == [
        {"name": "mine", "key": memory.name, "offset": 0, "byte_size": 64}
    ]
    place = {"shared_memory_region": "mine", "shared_memory_byte_size": 12}
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": place}
    wanted = [{"name": "y", "parameters": {**place, "shared_memory_offset": 16}}]
    status, found, _ = server.ask("POST", "/v2/models/double/infer", {"inputs": [entry], "outputs": wanted})
    assert status == 200, found
    assert "data" not in found["outputs"][0]
    assert np.frombuffer(bytes(memory.buf[16:28]), np.float32).tolist() == [2, 4, 6]
    small = [{"name": "y", "parameters": {**place, "shared_memory_byte_size": 4}}]
    status, found, _ = server.ask("POST", "/v2/models/double/infer", {"inputs": [entry], "outputs": small})
    assert status == 400 and "12 bytes" in found["error"]
    outside = {**entry, "parameters": {**place, "shared_memory_offset": 60}}
    status, found, _ = server.ask("POST", "/v2/models/double/infer", {"inputs": [outside]})
    assert status == 400 and "not in region" in found["error"]
    assert server.ask("POST", f"{BASE}/region/mine/register", register)[0] == 400
    assert server.ask("POST", f"{BASE}/region/mine/unregister")[0] == 200
    status, found, _ = server.ask("POST", "/v2/models/double/infer", {"inputs": [entry]})
    assert status == 400 and "no region 'mine'" in found["error"]


@pytest.mark.parametrize("key", ["../etc/passwd", "/../x", "a/b", "", "no_such_memory"])
def test_what_is_no_shared_memory(server, key):
    status, found, _ = server.ask("POST", f"{BASE}/region/r/register", {"key": key, "byte_size": 8})
    assert status == 400 and found["error"]


def test_a_region_larger_than_the_memory(server, memory):
    status, found, _ = server.ask("POST", f"{BASE}/region/r/register", {"key": memory.name, "byte_size": 1 << 40})
    assert status == 400 and "are not in the" in found["error"]
