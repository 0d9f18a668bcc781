"""Dynamic batching, priorities, deadlines, full queues."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np


def test_requests_are_joined_and_each_gets_its_own_rows(server):
    before = _stats(server, "batched")
    rows = [np.full((1 + i % 3, 3), i, np.float32) for i in range(24)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda x: server.infer("batched", x), rows))
    for x, (status, found, _) in zip(rows, answers, strict=True):
        assert status == 200
        assert found["outputs"][0]["data"] == (2 * x).reshape(-1).tolist()
    after = _stats(server, "batched")
    assert after["inference_count"] - before["inference_count"] == sum(len(x) for x in rows)
    assert after["execution_count"] - before["execution_count"] < len(rows)
    assert max(b["batch_size"] for b in after["batch_stats"]) <= 8


def _stats(server, name):
    return server.ask("GET", f"/v2/models/{name}/stats")[1]["model_stats"][0]


def test_without_dynamic_batching_each_request_is_a_run(server):
    before = _stats(server, "rows")
    with ThreadPoolExecutor(8) as pool:
        assert {a[0] for a in pool.map(lambda _: server.infer("rows", [[1, 2, 3]]), range(16))} == {200}
    after = _stats(server, "rows")
    assert after["execution_count"] - before["execution_count"] == 16
