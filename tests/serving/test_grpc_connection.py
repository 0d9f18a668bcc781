"""What carries gRPC: both servers keep its rules, whatever a client does."""

import importlib.util
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from dlbridge.repository import messages
from tests.helpers.grpc_calls import MODEL_INFER, SLOW, call, code_of, connected, request, y_of
from tests.helpers.serving import start, write_entry


@pytest.fixture(scope="module", params=["zttp", "grpcio"])
def running(request, tmp_path_factory):
    if importlib.util.find_spec("zttp") is None and request.param == "zttp":
        pytest.skip("zttp is not installed")
    repository = tmp_path_factory.mktemp("repository")
    write_entry(repository, "double")
    write_entry(repository, "slow", SLOW)
    found = start(repository, "--grpc-engine", request.param, "--max-body", "8")
    yield found
    assert found.stop() == 0


@pytest.fixture
def channel(running):
    with connected(running.grpc_port) as found:
        yield found


def test_tensors_larger_than_the_windows_of_http2(channel):
    x = np.random.default_rng(0).standard_normal((150_000, 3)).astype(np.float32)
    assert np.array_equal(y_of(call(channel)(request(x), timeout=20)), 2 * x)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages(channel, compression):
    x = np.ones((5000, 3), np.float32)
    assert np.array_equal(y_of(call(channel)(request(x), timeout=20, compression=compression)), 2 * x)


def test_what_is_too_large(channel):
    x = np.zeros((1_000_000, 3), np.float32)
    assert code_of(lambda: call(channel)(request(x), timeout=20))[0] == "RESOURCE_EXHAUSTED"
    small = code_of(lambda: call(channel)(request(x), timeout=20, compression=grpc.Compression.Gzip))
    assert small[0] == "RESOURCE_EXHAUSTED"
    assert y_of(call(channel)(request([[1, 2, 3]]), timeout=20)).tolist() == [[2, 4, 6]]


def test_a_deadline(channel):
    assert code_of(lambda: call(channel)(request([[1, 2, 3]], "slow"), timeout=0.05))[0] == "DEADLINE_EXCEEDED"


def test_methods_that_there_are_not(channel):
    for path in ("/inference.GRPCInferenceService/Nothing", "/no.Service/ModelInfer"):
        assert code_of(lambda path=path: call(channel, path)(request([[1, 2, 3]]), timeout=20))[0] == "UNIMPLEMENTED"


def test_a_message_that_is_none(channel):
    raw = channel.unary_unary(MODEL_INFER)
    assert code_of(lambda: raw(b"\xff\xff\xff", timeout=20))[0] in ("INVALID_ARGUMENT", "INTERNAL")


def test_many_calls_of_one_connection_at_once(channel):
    rows = [np.full((1, 3), i, np.float32) for i in range(400)]
    under_way = [call(channel).future(request(x, "double"), timeout=30) for x in rows]
    assert all(np.array_equal(y_of(f.result()), 2 * x) for f, x in zip(under_way, rows, strict=True))


def test_calls_that_are_withdrawn_do_not_harm_the_others(channel):
    """zttp ends a connection after 256 of them: the client is asked for another before, and loses nothing."""
    for _ in range(3):
        withdrawn = [call(channel).future(request([[1, 2, 3]], "slow")) for _ in range(110)]
        kept = [call(channel).future(request([[i, 2, 3]]), timeout=30) for i in range(10)]
        time.sleep(0.05)
        for future in withdrawn:
            future.cancel()
        assert [y_of(f.result())[0, 0] for f in kept] == [2.0 * i for i in range(10)]


def test_a_stream_that_ends_before_it_begins(channel):
    stream = channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        messages.ModelInferRequest.SerializeToString,
        messages.ModelStreamInferResponse.FromString,
    )
    assert list(stream(iter(()), timeout=20)) == []


def test_a_stream_of_more_than_may_be_under_way(channel):
    stream = channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        messages.ModelInferRequest.SerializeToString,
        messages.ModelStreamInferResponse.FromString,
    )
    found = list(stream((request([[i, i, i]], id=str(i)) for i in range(500)), timeout=30))
    assert [r.infer_response.id for r in found] == [str(i) for i in range(500)]


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 500, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500],
)
def test_what_is_no_http2_ends_its_connection_alone(running, channel, sent):
    with socket.create_connection(("127.0.0.1", running.grpc_port), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass
    assert y_of(call(channel)(request([[1, 2, 3]]), timeout=20)).tolist() == [[2, 4, 6]]


@pytest.mark.parametrize("engine", ["zttp", "grpcio"])
def test_a_token_and_a_drain(tmp_path, engine):
    if importlib.util.find_spec("zttp") is None and engine == "zttp":
        pytest.skip("zttp is not installed")
    write_entry(tmp_path / "repository", "slow", SLOW)
    (tmp_path / "token").write_text("secret")
    running = start(tmp_path / "repository", "--grpc-engine", engine, "--token-file", str(tmp_path / "token"))
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert live(b"", timeout=20)
        message = request([[1, 2, 3]], "slow")
        assert code_of(lambda: call(channel)(message, timeout=20))[0] == "UNAUTHENTICATED"
        allowed = [("authorization", "Bearer secret")]
        with ThreadPoolExecutor(1) as pool:
            stopping = threading.Timer(0.2, lambda: pool.submit(running.stop))
            stopping.start()
            assert y_of(call(channel)(message, metadata=allowed, timeout=20)).tolist() == [[2, 4, 6]]
            stopping.join()
    assert running.process.wait(40) == 0
