"""Asks a server by NVIDIA's own client, over HTTP and gRPC: ``python triton_client.py HTTP_PORT GRPC_PORT``.

It runs in an environment of its own, because the client wants an older protobuf. The server serves the models of
``test_clients.py``.
"""

import queue
import sys
import threading

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
import tritonclient.utils.shared_memory as shared_memory
from tritonclient.utils import InferenceServerException

X = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)


def inputs(client, array=X):
    found = client.InferInput("x", list(array.shape), "FP32")
    found.set_data_from_numpy(array)
    return [found]


def refused(word, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        assert word in str(error), error
        return
    raise AssertionError(f"no error of {word}")


def common(module, client):
    """What both protocols do by the same names."""
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("double")
    client.get_server_metadata(), client.get_model_metadata("double"), client.get_model_config("double")
    assert np.array_equal(client.infer("double", inputs(module)).as_numpy("y"), 2 * X)
    wanted = [module.InferRequestedOutput("y")]
    found = client.infer("double", inputs(module), outputs=wanted, request_id="mine", model_version="1")
    assert np.array_equal(found.as_numpy("y"), 2 * X)
    best = client.infer("double", inputs(module), outputs=[module.InferRequestedOutput("y", class_count=2)])
    index = int(best.as_numpy("y")[0][0].decode().split(":")[1])
    assert index == int(np.argmax(X[0]))
    refused("Request for unknown model", client.infer, "nope", inputs(module))
    refused("takes the shape", client.infer, "double", inputs(module, X[:, :2].copy()))
    refused("no output", client.infer, "double", inputs(module), outputs=[module.InferRequestedOutput("z")])
    client.get_inference_statistics("double")
    client.unload_model("double")
    refused("unloaded", client.infer, "double", inputs(module))
    assert not client.is_model_ready("double")
    refused("failed to load", client.load_model, "nope")
    client.unregister_cuda_shared_memory()
    client.load_model("double")
    assert client.is_model_ready("double")
    client.get_model_repository_index()
    in_shared_memory(module, client)


def in_shared_memory(module, client):
    key = f"/dlbridge_{module.__name__.rpartition('.')[2]}"
    region = shared_memory.create_shared_memory_region("mine", key, 2 * X.nbytes)
    try:
        shared_memory.set_shared_memory_region(region, [X])
        client.register_system_shared_memory("mine", key, 2 * X.nbytes)
        assert "mine" in str(client.get_system_shared_memory_status())
        given, wanted = module.InferInput("x", list(X.shape), "FP32"), module.InferRequestedOutput("y")
        given.set_shared_memory("mine", X.nbytes)
        wanted.set_shared_memory("mine", X.nbytes, offset=X.nbytes)
        client.infer("double", [given], outputs=[wanted])
        found = shared_memory.get_contents_as_numpy(region, np.float32, list(X.shape), offset=X.nbytes)
        assert np.array_equal(found, 2 * X)
        client.unregister_system_shared_memory("mine")
    finally:
        shared_memory.destroy_shared_memory_region(region)


def http(port):
    client = over_http.InferenceServerClient(f"localhost:{port}", concurrency=4)
    common(over_http, client)
    given = over_http.InferInput("x", list(X.shape), "FP32")
    given.set_data_from_numpy(X, binary_data=False)
    plain = over_http.InferRequestedOutput("y", binary_data=False)
    assert np.array_equal(client.infer("double", [given], outputs=[plain]).as_numpy("y"), 2 * X)
    for encoding in ("gzip", "deflate"):
        found = client.infer(
            "double",
            inputs(over_http),
            request_compression_algorithm=encoding,
            response_compression_algorithm=encoding,
        )
        assert np.array_equal(found.as_numpy("y"), 2 * X)
    asked = [client.async_infer("batched", inputs(over_http, X + i)) for i in range(8)]
    for i, answer in enumerate(asked):
        assert np.allclose(answer.get_result().as_numpy("y"), 2 * (X + i), rtol=1e-6)


def grpc(port):
    client = over_grpc.InferenceServerClient(f"localhost:{port}")
    common(over_grpc, client)
    answers: queue.Queue = queue.Queue()
    for i in range(8):
        client.async_infer("batched", inputs(over_grpc, X + i), lambda result, error: answers.put((result, error)))
    for _ in range(8):
        result, error = answers.get(timeout=10)
        assert error is None and result.as_numpy("y").shape == X.shape
    client.start_stream(lambda result, error: answers.put((result, error)))
    for i in range(5):
        client.async_stream_infer("double", inputs(over_grpc, X + i), request_id=str(i))
    client.async_stream_infer("nope", inputs(over_grpc))
    for i in range(5):
        result, error = answers.get(timeout=10)
        assert error is None and result.get_response().id == str(i)
    assert "no model" in str(answers.get(timeout=10)[1])
    client.stop_stream()
    refused("DEADLINE", client.infer, "slow", inputs(over_grpc), client_timeout=0.001)


if __name__ == "__main__":
    http(int(sys.argv[1]))
    grpc(int(sys.argv[2]))
    assert threading.active_count() < 20
    print("all passed")
