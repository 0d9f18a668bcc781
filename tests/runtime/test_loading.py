"""Loading: optimised graphs that are kept, and the options of providers."""

import logging

import numpy as np
import onnx
import pytest
from onnx import external_data_helper, helper, numpy_helper

from dlbridge import runtime
from dlbridge.runtime import loading
from tests.helpers.serving import heavy


def write_convolution(path, seed=0, external=False):
    """A model that onnxruntime optimises: a convolution with a bias and an activation."""
    weights = np.random.default_rng(seed).standard_normal((16, 3, 3, 3)).astype(np.float32)
    tensor = numpy_helper.from_array(weights, "w")
    x = helper.make_tensor_value_info("x", 1, ("batch", 3, 8, 8))
    y = helper.make_tensor_value_info("y", 1, None)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4), helper.make_node("Relu", ["c"], ["y"])]
    graph = helper.make_graph(nodes, "convolution", [x], [y], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    if external:
        external_data_helper.convert_model_to_external_data(model, location="w.bin", size_threshold=0)
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, path)
    return path


X = {"x": np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize("external", [False, True])
def test_a_kept_graph_gives_the_same_numbers(tmp_path, external):
    path = write_convolution(tmp_path / "m" / "m.onnx", external=external)
    expected = runtime.load(path).run(X)["y"]
    for _ in range(2):
        assert np.array_equal(runtime.load(path, cache=tmp_path / "cache").run(X)["y"], expected)
    (kept,) = (tmp_path / "cache").iterdir()
    optimised = onnx.load(kept / "model.onnx", load_external_data=False)
    assert [node.op_type for node in optimised.graph.node].count("Relu") == 0  # fused into the convolution


@pytest.mark.parametrize("external", [False, True])
def test_a_model_that_has_changed_is_optimised_anew(tmp_path, external):
    path = write_convolution(tmp_path / "m" / "m.onnx", external=external)
    before = runtime.load(path, cache=tmp_path / "cache").run(X)["y"]
    write_convolution(path, seed=7, external=external)
    after = runtime.load(path, cache=tmp_path / "cache").run(X)["y"]
    assert np.array_equal(after, runtime.load(path).run(X)["y"]) and not np.array_equal(after, before)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_kept_graph_that_is_broken_is_written_anew(tmp_path, caplog):
    path = write_convolution(tmp_path / "m" / "m.onnx")
    expected = runtime.load(path, cache=tmp_path / "cache").run(X)["y"]
    (kept,) = (tmp_path / "cache").iterdir()
    (kept / "model.onnx").write_bytes(b"nothing")
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(runtime.load(path, cache=tmp_path / "cache").run(X)["y"], expected)
    assert "written anew" in caplog.text
    assert len((kept / "model.onnx").read_bytes()) > 100


def test_a_model_that_cannot_be_loaded_leaves_nothing_behind(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(runtime.loading.FileError):
        runtime.load(tmp_path / "m.onnx", cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(("tf32", "option"), [(False, "0"), (True, "1")])
def test_products_on_a_gpu_are_not_rounded_further_unless_that_is_asked_for(monkeypatch, tmp_path, tf32, option):
    path = heavy(tmp_path / "m.onnx", 1, 2)
    asked = []

    def session(file, options, providers):
        asked.append(providers)
        raise RuntimeError("CUDAExecutionProvider: there is no GPU")

    monkeypatch.setattr(loading.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(loading.onnxruntime, "InferenceSession", session)
    with pytest.raises(runtime.loading.ProviderError):
        runtime.load(path, providers="cuda:1", tf32=tf32)
    assert asked == [[("CUDAExecutionProvider", {"device_id": "1", "use_tf32": option})]]
