"""Requests for inference on the short way and on the long one: what a connection may do, both answer."""

import json
import socket
import time

import pytest

from tests.helpers.serving import start, write_entry

BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}).encode()
SLOW = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 400000 }"


def head(*lines: str, model: str = "double", version: str = "1.1", size: int | None = len(BODY)) -> bytes:
    length = [f"Content-Length: {size}"] if size is not None else []
    return "\r\n".join([f"POST /v2/models/{model}/infer HTTP/{version}", "Host: x", *length, *lines, "", ""]).encode()


class Client:
    """A connection that says exactly what it is told to."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._rest = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, bytes]:
        """(status, body) of the next answer."""
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._more()
        top, _, self._rest = self._rest.partition(b"\r\n\r\n")
        if top.startswith(b"HTTP/1.1 100"):
            return self.answer()
        fields = dict(line.lower().split(b": ", 1) for line in top.split(b"\r\n")[1:])
        size = int(fields[b"content-length"])
        while len(self._rest) < size:
            self._rest += self._more()
        body, self._rest = self._rest[:size], self._rest[size:]
        return int(top.split()[1]), body

    def _more(self) -> bytes:
        found = self.socket.recv(1 << 16)
        assert found, "the server has closed the connection"
        return found

    def is_closed(self) -> bool:
        return self.socket.recv(1) == b""


@pytest.fixture
def client(server):
    found = Client(server.port)
    yield found
    found.socket.close()


def is_good(answer: tuple[int, bytes]) -> bool:
    return answer[0] == 200 and answer[1] != b"" and json.loads(answer[1])["outputs"][0]["data"] == [2, 4, 6]


def test_one_connection_for_many_requests_good_and_bad(client):
    for _ in range(3):
        client.send(head() + BODY)
        assert is_good(client.answer())
        client.send(head(size=2) + b"{}")
        assert client.answer()[0] == 400
        client.send(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.answer()[0] == 200


def test_a_request_in_parts(client):
    data = head() + BODY
    for byte in data[:40]:
        client.send(bytes([byte]))
        time.sleep(0.001)
    for start_of in range(40, len(data), 50):
        client.send(data[start_of : start_of + 50])
        time.sleep(0.002)
    assert is_good(client.answer())


def test_requests_that_do_not_wait_for_answers(client):
    client.send((head() + BODY) * 5 + b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n" + head() + BODY)
    answers = [client.answer() for _ in range(7)]
    assert [is_good(a) for a in answers] == [True] * 5 + [False, True] and answers[5][0] == 200


def test_chunks(client):
    client.send(head("Transfer-Encoding: chunked", size=None) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
    assert is_good(client.answer())


def test_a_client_that_asks_whether_to_go_on(client):
    client.send(head("Expect: 100-continue"))
    time.sleep(0.05)
    client.send(BODY)
    assert is_good(client.answer())


@pytest.mark.parametrize("asked", [head("Connection: close"), head(version="1.0")])
def test_a_connection_for_one_request(client, asked):
    client.send(asked + BODY)
    assert is_good(client.answer()) and client.is_closed()


def test_a_head_without_end(client):
    client.send(head()[:-2])
    with pytest.raises(OSError):  # closed by the server
        for number in range(1000):
            client.send(b"X-%d: %b\r\n" % (number, b"a" * 1000))
            time.sleep(0.001)


def test_a_body_that_is_announced_too_large(client):
    client.send(head(size=1 << 40))
    assert client.answer()[0] == 413


def test_a_request_whose_client_goes_is_not_run(tmp_path):
    write_entry(tmp_path, "slow", SLOW)
    running = start(tmp_path)
    for _ in range(5):
        client = Client(running.port)
        client.send(head(model="slow") + BODY)
        time.sleep(0.05)
        client.socket.close()
    time.sleep(0.6)
    assert running.ask("GET", "/v2/models/slow/stats")[1]["model_stats"][0]["execution_count"] == 0
    assert running.infer("slow", [[1, 2, 3]])[0] == 200
    assert running.stop() == 0
