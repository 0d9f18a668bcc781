"""Images as they are in their files, sent to a model that takes their pixels."""

import io
import threading

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper, save

from dlbridge.repository import messages
from dlbridge.serving.tensors import join_strings
from tests.helpers.serving import start

image = pytest.importorskip("PIL.Image")


def write_mean(path, kind, sizes) -> None:
    """Write a model that returns the mean of each channel of images of bytes, or of floats, of any size."""
    x = helper.make_tensor_value_info("image", kind, sizes)
    y = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ("batch", 3))
    axes = [1, 2] if sizes[3] == 3 else [2, 3]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
    ]
    held = helper.make_tensor("axes", TensorProto.INT64, [2], axes)
    graph = helper.make_graph(nodes, "mean", [x], [y], [held])
    path.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    save(model, path / "model.onnx")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    repository = tmp_path_factory.mktemp("repository")
    write_mean(repository / "bytes" / "1", TensorProto.UINT8, ("batch", "h", "w", 3))
    write_mean(repository / "floats" / "1", TensorProto.FLOAT, ("batch", 3, 8, 8))
    batching = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 50000 }"
    (repository / "bytes" / "config.pbtxt").write_text(batching)
    found = start(repository)
    yield found
    assert found.stop() == 0


def pixels(height=8, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


def file_of(array, kind="PNG"):
    data = io.BytesIO()
    image.fromarray(array).save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_an_image_alone_is_a_request(running, kind):
    x = pixels()
    for model, scale in (("bytes", 1), ("floats", 255)):
        data = file_of(x, kind)
        status, found, _ = running.ask("POST", f"/v2/models/{model}/infer", data, Content_Type=f"image/{kind.lower()}")
        assert status == 200, found
        assert np.allclose(found["outputs"][0]["data"], x.mean((0, 1)) / scale, rtol=1e-5)


def test_images_of_different_sizes_at_once(running):
    """Requests whose images differ in size cannot be run together, and each is answered."""
    answers = {}

    def ask(seed):
        data = file_of(pixels(8 + seed % 3, 9, seed))
        answers[seed] = running.ask("POST", "/v2/models/bytes/infer", data, Content_Type="image/png")

    askers = [threading.Thread(target=ask, args=(seed,)) for seed in range(9)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    for seed, (status, found, _) in answers.items():
        assert status == 200, found
        assert np.allclose(found["outputs"][0]["data"], pixels(8 + seed % 3, 9, seed).mean((0, 1)), rtol=1e-5)


def test_images_over_grpc(running):
    x = [pixels(seed=seed) for seed in range(3)]
    request = messages.ModelInferRequest(model_name="bytes")
    request.inputs.add(name="image", datatype="BYTES", shape=[3])
    request.raw_input_contents.append(join_strings([file_of(array) for array in x]))
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            messages.ModelInferRequest.SerializeToString,
            messages.ModelInferResponse.FromString,
        )
        found = call(request, timeout=20)
    means = np.frombuffer(found.raw_output_contents[0], np.float32).reshape(3, 3)
    assert np.allclose(means, [array.mean((0, 1)) for array in x], rtol=1e-5)


JPEG = file_of(pixels(), "JPEG")


@pytest.mark.parametrize(
    ("model", "data", "word"),
    [
        ("bytes", b"", "not an image"),
        ("bytes", b"garbage" * 100, "not an image"),
        ("bytes", JPEG[: len(JPEG) // 2], "not an image"),
        ("bytes", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        ("floats", file_of(pixels(9, 9)), "9 rows x 9 columns"),
    ],
)
def test_what_is_no_image_is_said(running, model, data, word):
    for _ in range(8):  # more often than a worker may die
        status, found, _ = running.ask("POST", f"/v2/models/{model}/infer", data, Content_Type="image/jpeg")
        assert status == 400 and word in found["error"], found


def test_pixels_are_bounded(running):
    """A file of some thousand bytes that claims 25 million pixels, and several that have them together."""
    data = io.BytesIO()
    image.new("1", (5000, 5000)).save(data, "PNG")
    status, found, _ = running.ask("POST", "/v2/models/bytes/infer", data.getvalue(), Content_Type="image/png")
    assert status == 400 and "pixels" in found["error"], found
    data = io.BytesIO()
    image.new("1", (3000, 3000)).save(data, "PNG")
    request = messages.ModelInferRequest(model_name="bytes")
    request.inputs.add(name="image", datatype="BYTES", shape=[3])
    request.raw_input_contents.append(join_strings([data.getvalue()] * 3))
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", messages.ModelInferRequest.SerializeToString
        )
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=20)
    assert caught.value.code().name == "INVALID_ARGUMENT" and "pixels" in caught.value.details()
