"""gRPC under clients that read slowly, late or not at all, and messages larger than the windows of HTTP/2."""

import socket
import time

import grpc
import numpy as np
import pytest

from dlbridge.repository import messages
from tests.helpers.grpc_calls import MODEL_INFER, SLOW, call, code_of, connected, request, y_of
from tests.helpers.serving import start, write_entry

zttp = pytest.importorskip("zttp")

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
LARGE = np.random.default_rng(0).standard_normal((500_000, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=["zttp", "grpcio"])
def running(request, tmp_path_factory):
    repository = tmp_path_factory.mktemp("repository")
    write_entry(repository, "double")
    write_entry(repository, "slow", SLOW)
    found = start(repository, "--grpc-engine", request.param)
    found.engine = request.param
    yield found
    assert found.stop() == 0


@pytest.fixture
def channel(running):
    with connected(running.grpc_port) as found:
        yield found


def streaming(channel):
    return channel.stream_stream(
        STREAM, messages.ModelInferRequest.SerializeToString, messages.ModelStreamInferResponse.FromString
    )


class Client:
    """A client that gives a server no more room than HTTP/2 begins with, and reads when it is told to."""

    def __init__(self, port):
        self.http = zttp.Connection(zttp.CLIENT, protocol=zttp.HTTP2)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.http.initiate_connection()
        self.answer, self.trailers, self.reset = bytearray(), None, None

    def ask(self, message, **headers):
        sent = [(b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"host", b"localhost")]
        sent += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.stream = self.http.send_request(b"POST", MODEL_INFER.encode(), b"2", sent)
        data = message.SerializeToString()
        left = memoryview(b"\0" + len(data).to_bytes(4, "big") + data)
        while left:
            room = min(self.stream.send_window, self.http.send_window)
            self.stream.send_data(left[:room])
            left = left[room:]
            self.socket.sendall(self.http.data_to_send())
            if left:
                self.http.receive_data(self.socket.recv(1 << 16))
                while self.http.next_event() is not zttp.NEED_DATA:
                    pass
        self.stream.end_message()
        self.socket.sendall(self.http.data_to_send())

    def read(self, until=None):
        """Read until so much of the answer is there, or all that comes; room is given only for what is read."""
        while self.trailers is None and self.reset is None and (until is None or len(self.answer) < until):
            data = self.socket.recv(1 << 16)
            if not data:
                return
            self.http.receive_data(data)
            while (event := self.http.next_event()) is not zttp.NEED_DATA:
                if isinstance(event, zttp.Data):
                    self.answer += event.data
                elif isinstance(event, zttp.EndOfMessage):
                    self.trailers = dict(event.trailers)
                elif isinstance(event, zttp.RstStream):
                    self.reset = event.error_code
            if until is None or len(self.answer) < until:
                self.socket.sendall(self.http.data_to_send())

    @property
    def y(self):
        return y_of(messages.ModelInferResponse.FromString(bytes(self.answer[5:])))


def test_an_answer_much_larger_than_the_room_for_it(running, channel):
    client = Client(running.grpc_port)
    client.ask(request(LARGE[:50_000]))
    client.read()
    assert client.trailers[b"grpc-status"] == b"0" and np.array_equal(client.y, 2 * LARGE[:50_000])
    assert np.array_equal(y_of(call(channel)(request(LARGE), timeout=60)), 2 * LARGE)


def test_who_reads_late_is_asked_to_wait(running, channel):
    """Messages of a stream are not taken while their answers are not read: the server would have to keep them."""
    taken = 0
    x = np.ones((20_000, 3), np.float32)

    def asked():
        nonlocal taken
        for i in range(400):
            taken += 1
            yield request(x, id=str(i))

    answers = streaming(channel)(asked(), timeout=60)
    time.sleep(2.0)
    assert taken < 300
    assert [a.infer_response.id for a in answers] == [str(i) for i in range(400)]


def test_a_stream_that_waits_does_not_hold_up_other_calls(running, channel):
    x = np.ones((20_000, 3), np.float32)
    answers = streaming(channel)((request(x, id=str(i)) for i in range(400)), timeout=60)
    time.sleep(1.0)
    for _ in range(5):
        assert y_of(call(channel)(request([[1, 2, 3]]), timeout=10)).tolist() == [[2, 4, 6]]
    answers.cancel()
    assert y_of(call(channel)(request([[1, 2, 3]]), timeout=10)).tolist() == [[2, 4, 6]]


def test_a_long_error_reaches_the_client(channel):
    code, text = code_of(lambda: call(channel)(request([[1, 2, 3]], "n" * 100_000), timeout=20))
    assert code == "NOT_FOUND" and "no model 'nnn" in text and len(text) < 4000


def test_metadata_of_more_than_a_frame(running, channel):
    if running.engine == "grpcio":
        pytest.skip("gRPC's own server takes 8 KiB")
    large = [("x-large", "v" * 20_000), ("x-larger", "w" * 30_000)]
    assert y_of(call(channel)(request([[1, 2, 3]]), metadata=large, timeout=20)).tolist() == [[2, 4, 6]]


def test_health_of_a_service_that_there_is_not(channel):
    types = [messages.message(f"HealthCheck{kind}", "grpc.health.v1") for kind in ("Request", "Response")]
    check = channel.unary_unary("/grpc.health.v1.Health/Check", types[0].SerializeToString, types[1].FromString)
    assert check(types[0](service="inference.GRPCInferenceService"), timeout=20).status == 1
    assert code_of(lambda: check(types[0](service="nope"), timeout=20))[0] == "NOT_FOUND"


def test_a_client_that_goes_away_in_a_stream(running, channel):
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}", [("grpc.use_local_subchannel_pool", 1)]) as other:
        answers = streaming(other)((request([[i, i, i]], "slow") for i in range(100)), timeout=60)
        time.sleep(0.1)
        del answers
    assert y_of(call(channel)(request([[1, 2, 3]]), timeout=20)).tolist() == [[2, 4, 6]]


# --- what only the server over zttp has to do itself ---------------------------------------------------------------


@pytest.fixture
def wire(tmp_path):
    write_entry(tmp_path, "double")
    running = start(tmp_path, "--grpc-engine", "zttp")
    yield running
    if running.process.poll() is None:
        running.stop()


def large_answer(port, **headers):
    """A client that has read the begin of a large answer, and gives no room for the rest."""
    client = Client(port)
    client.ask(request(LARGE[:50_000]), **headers)
    client.read(until=16384)
    return client, 2 * LARGE[:50_000]


def test_an_answer_that_is_on_its_way_is_not_lost_when_the_server_ends(wire):
    """The server is told to end before there is room for the rest of the answer."""
    client, expected = large_answer(wire.grpc_port)
    wire.process.terminate()
    time.sleep(0.5)
    client.read()
    assert client.trailers[b"grpc-status"] == b"0" and np.array_equal(client.y, expected)
    assert wire.process.wait(20) == 0


def test_the_server_does_not_wait_for_streams_on_which_nothing_happens(wire):
    with grpc.insecure_channel(f"127.0.0.1:{wire.grpc_port}") as channel:
        end = time.monotonic() + 60

        def asked():
            yield request([[1, 2, 3]], id="0")
            while time.monotonic() < end:
                time.sleep(0.1)

        answers = streaming(channel)(asked())
        assert next(answers).infer_response.id == "0"
        begun = time.monotonic()
        wire.process.terminate()
        assert code_of(lambda: next(answers))[0] == "UNAVAILABLE"
        assert wire.process.wait(20) == 0 and time.monotonic() - begun < 10
        end = 0


def test_an_answer_that_is_not_read_in_time_is_given_up(wire):
    client, _ = large_answer(wire.grpc_port, grpc_timeout="700m")
    second, _ = large_answer(wire.grpc_port)
    time.sleep(1.0)
    client.read()
    assert client.reset is not None
    second.read()
    assert second.trailers[b"grpc-status"] == b"0"


def test_an_answer_in_many_pieces_takes_no_more_of_the_servers_time(wire):
    """zttp itself would move all of what waits for each piece that goes: seconds for an answer of 24 MB."""
    client = Client(wire.grpc_port)
    client.ask(request(np.zeros((2_000_000, 3), np.float32)))
    before = _processor_time(wire.process.pid)
    client.read()
    assert client.trailers[b"grpc-status"] == b"0" and len(client.answer) > 24_000_000
    assert _processor_time(wire.process.pid) - before < 2.0


def _processor_time(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
