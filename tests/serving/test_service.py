"""What the server promises whatever a request holds."""

import asyncio

import numpy as np
import pytest

from dlbridge.serving import service
from dlbridge.serving.clients import unless_gone
from dlbridge.serving.http.application import HttpApp
from dlbridge.serving.problems import ServingError
from dlbridge.serving.repository import Repository
from dlbridge.serving.requests import InferRequest
from dlbridge.serving.service import Service
from dlbridge.serving.tensors import from_array
from tests.helpers.serving import write_entry


def test_an_answer_that_cannot_be_made_is_told_and_leaves_the_worker_alone(tmp_path, monkeypatch):
    write_entry(tmp_path, "model")

    def broken(*_):
        raise ValueError("a bug")

    async def main():
        served = Service(Repository(tmp_path))
        await served.repository.load_all()
        worker = served.repository.version("model").worker_pid
        request = InferRequest("model", {"x": from_array(np.ones((1, 3), np.float32))})
        with monkeypatch.context() as patched:
            patched.setattr(service, "_response", broken)
            with pytest.raises(ServingError, match="could not answer"):
                await asyncio.wait_for(served.infer(request), 10)
        assert (await served.infer(request)).outputs[0][0] == "y"
        assert served.repository.version("model").worker_pid == worker
        await served.repository.close()

    asyncio.run(main())


def test_a_client_that_goes_withdraws_what_it_asked_for():
    async def main():
        ended = []

        async def work():
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(True)

        async def receive():
            return {"type": "http.disconnect"}

        with pytest.raises(ServingError, match="went away"):
            await asyncio.wait_for(unless_gone(work(), receive), 10)
        assert ended

    asyncio.run(main())


def test_an_error_that_nobody_foresaw_is_json(tmp_path, monkeypatch):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    served = Service(Repository(tmp_path))
    monkeypatch.setattr(served, "metadata", lambda: 1 / 0)
    scope = {"type": "http", "method": "GET", "path": "/v2", "raw_path": b"/v2", "headers": [], "query_string": b""}
    with pytest.raises(ZeroDivisionError):  # uvicorn writes it into the log
        asyncio.run(HttpApp(served, max_body=1000)(scope, receive, send))
    assert sent[0]["status"] == 500 and b'"error"' in sent[1]["body"]


@pytest.mark.parametrize("path", ["/v2/models/model/generate", "/v2/repository/models/model/load", "/v2/nowhere/infer"])
def test_every_body_is_bounded(tmp_path, path):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b" " * 600, "more_body": len(sent) < 1000}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "headers": [],
        "query_string": b"",
    }
    asyncio.run(HttpApp(Service(Repository(tmp_path)), max_body=1000)(scope, receive, send))
    assert sent[0]["status"] in (404, 413) and b"error" in sent[1]["body"]
    if "nowhere" not in path:
        assert sent[0]["status"] == 413
