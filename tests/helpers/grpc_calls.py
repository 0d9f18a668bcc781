"""Calls of inference over gRPC, as a client makes them."""

from contextlib import contextmanager

import grpc
import numpy as np
import pytest

from dlbridge.repository import messages

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
#: The configuration of a model whose requests wait for others.
SLOW = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 500000 }"


@contextmanager
def connected(port):
    """A channel of its own connection, which takes messages of any size."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        yield channel


def request(x, model="double", raw=True, **fields):
    array = np.asarray(x, np.float32)
    message = messages.ModelInferRequest(model_name=model, **fields)
    entry = message.inputs.add(name="x", datatype="FP32", shape=array.shape)
    if raw:
        message.raw_input_contents.append(array.tobytes())
    else:
        entry.contents.fp32_contents.extend(array.reshape(-1).tolist())
    return message


def call(channel, path=MODEL_INFER):
    return channel.unary_unary(
        path, messages.ModelInferRequest.SerializeToString, messages.ModelInferResponse.FromString
    )


def y_of(response):
    return np.frombuffer(response.raw_output_contents[0], np.float32).reshape(response.outputs[0].shape)


def code_of(work):
    with pytest.raises(grpc.RpcError) as caught:
        work()
    return caught.value.code().name, caught.value.details()
