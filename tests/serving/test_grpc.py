"""The Open Inference Protocol over gRPC."""

import grpc
import numpy as np
import pytest

from dlbridge.repository import messages
from tests.helpers.grpc_calls import call, request

METHODS = {name: (request, response) for name, request, response, _ in messages.methods("GRPCInferenceService")}


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


def ask(channel, method, service="inference.GRPCInferenceService", **fields):
    request, response = METHODS[method]
    call = channel.unary_unary(f"/{service}/{method}", request.SerializeToString, response.FromString)
    return call(request(**fields), timeout=20)


def infer(channel, message):
    return call(channel)(message, timeout=20)


def test_what_the_server_says_of_itself(channel):
    assert ask(channel, "ServerLive").live and ask(channel, "ServerReady").ready
    assert ask(channel, "ServerMetadata").name == "dlbridge"
    assert ask(channel, "ModelReady", name="rows").ready
    assert list(ask(channel, "ModelMetadata", name="rows").inputs[0].shape) == [-1, 3]
    assert ask(channel, "ModelConfig", name="rows").config.max_batch_size == 4
    assert {m.name for m in ask(channel, "RepositoryIndex").models} >= {"rows", "double"}
    assert ask(channel, "ModelStatistics", name="rows").model_stats[0].name == "rows"


def test_the_health_service_of_grpc(channel):
    request, response = messages.message("HealthCheckRequest", "grpc.health.v1"), None
    response = messages.message("HealthCheckResponse", "grpc.health.v1")
    call = channel.unary_unary("/grpc.health.v1.Health/Check", request.SerializeToString, response.FromString)
    assert call(request()).status == 1


@pytest.mark.parametrize("raw", [True, False])
def test_inference(channel, raw):
    found = infer(channel, request([[1, 2, 3]], raw=raw, id="mine"))
    assert found.id == "mine" and found.outputs[0].name == "y" and list(found.outputs[0].shape) == [1, 3]
    assert np.frombuffer(found.raw_output_contents[0], np.float32).tolist() == [2, 4, 6]


def test_a_stream_keeps_its_order_and_outlives_an_error(channel):
    call = channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        messages.ModelInferRequest.SerializeToString,
        messages.ModelStreamInferResponse.FromString,
    )
    asked = [request([[i, i, i]], "batched", id=str(i)) for i in range(20)]
    asked.insert(5, request([[1, 1, 1]], "nope", id="wrong"))
    found = list(call(iter(asked), timeout=20))
    assert [r.infer_response.id for r in found] == [r.id for r in asked]
    assert "there is no model 'nope'" in found[5].error_message
    assert np.frombuffer(found[-1].infer_response.raw_output_contents[0], np.float32).tolist() == [38, 38, 38]


def test_what_is_wrong_with_a_request_is_said(channel):
    late = request([[1, 2, 3]])
    late.parameters["timeout"].int64_param = -5
    short = request([[1, 2, 3]])
    short.raw_input_contents[0] = b"1234"
    twice = request([[1, 2, 3]], raw=False)
    twice.inputs.append(twice.inputs[0])
    both = request([[1, 2, 3]], raw=False)
    both.raw_input_contents.append(b"1")
    uneven = request([[1, 2, 3]])
    uneven.raw_input_contents.append(b"1")
    negative = request([[1, 2, 3]])
    negative.inputs[0].shape[0] = -1
    misplaced = request([[1, 2, 3]], raw=False)
    misplaced.inputs[0].datatype = "FP64"
    outside = request([[1, 2, 3]], raw=False)
    outside.inputs[0].ClearField("contents")
    outside.inputs[0].datatype = "UINT8"
    outside.inputs[0].contents.uint_contents.extend([256, 1, 2])
    for message, code, word in [
        (misplaced, "INVALID_ARGUMENT", "in fp32_contents, those of FP64 go into fp64_contents"),
        (outside, "INVALID_ARGUMENT", "out of the range of UINT8"),
        (request([[1, 2, 3]], "nope"), "NOT_FOUND", "no model 'nope'"),
        (request([[1, 2, 3]], model_version="9"), "NOT_FOUND", "version 9"),
        (request([[1, 2]]), "INVALID_ARGUMENT", "takes the shape"),
        (late, "INVALID_ARGUMENT", "timeout"),
        (short, "INVALID_ARGUMENT", "12 bytes"),
        (twice, "INVALID_ARGUMENT", "twice"),
        (both, "INVALID_ARGUMENT", "contents"),
        (uneven, "INVALID_ARGUMENT", "raw contents"),
        (negative, "INVALID_ARGUMENT", "no shape"),
    ]:
        with pytest.raises(grpc.RpcError) as caught:
            infer(channel, message)
        assert caught.value.code().name == code and word in caught.value.details()
