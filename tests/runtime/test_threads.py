"""How many threads a session has where nobody says it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dlbridge import runtime
from dlbridge.runtime import threads
from tests.helpers.serving import affine, heavy

A_CORE_EACH = 0


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 8)


def test_small_models_have_one_and_large_ones_a_thread_a_core(tmp_path):
    assert runtime.load(affine(tmp_path / "small.onnx")).threads == 1
    large = heavy(tmp_path / "large.onnx", layers=40, width=1024)
    assert runtime.load(large, rows=64).threads == A_CORE_EACH


def test_what_is_asked_for_is_given(tmp_path):
    path = affine(tmp_path / "small.onnx")
    assert runtime.load(path, threads=3).threads == 3
    profiled = runtime.load(path, profile=tmp_path / "profile")
    profiled(np.ones((1, 3), np.float32))
    assert profiled.threads == 1 and profiled.end_profile().exists()
    assert len(list(tmp_path.glob("profile*"))) == 1


def test_the_rows_of_a_call_count(tmp_path):
    path = heavy(tmp_path / "model.onnx", layers=8, width=256)
    assert runtime.load(path, rows=1).threads == 1
    assert runtime.load(path, rows=4096).threads == A_CORE_EACH


def test_large_weights_count_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "_LARGE_FILE", 1000)
    monkeypatch.setattr(threads, "is_one_enough", None)
    assert runtime.load(heavy(tmp_path / "model.onnx", 1, 32)).threads == A_CORE_EACH


def test_files_that_lie_beside_a_model_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "_LARGE_FILE", 1000)
    (tmp_path / "other").write_bytes(bytes(2000))
    assert runtime.load(affine(tmp_path / "small.onnx")).threads == 1


def test_sizes_that_the_model_refuses(tmp_path):
    """Its second axis is reshaped to 1, 7, 7: neither 64 nor 1 goes, and nothing is known of its calls."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ("batch", "n")) for n in "xy")
    shape = numpy_helper.from_array(np.array([1, 7, 7], np.int64), "shape")
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "reshape", [x], [y], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    session = runtime.load(tmp_path / "model.onnx")
    assert session.threads == A_CORE_EACH


def test_a_model_that_never_ends_on_zeros_can_be_loaded(tmp_path):
    """It goes on while the condition that it is given is false."""
    end = helper.make_tensor_value_info("end", TensorProto.BOOL, [])
    x, y, before, after = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y", "a", "b"))
    number = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    condition, goes_on = (helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("c", "goes_on"))
    nodes = [helper.make_node("Not", ["end"], ["goes_on"]), helper.make_node("Add", ["a", "a"], ["b"])]
    body = helper.make_graph(nodes, "body", [number, condition, before], [goes_on, after])
    nodes = [
        helper.make_node("Not", ["end"], ["begin"]),
        helper.make_node("Loop", ["", "begin", "x"], ["y"], body=body),
    ]
    graph = helper.make_graph(nodes, "endless", [end, x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "m.onnx")
    session = runtime.load(tmp_path / "m.onnx")
    assert session.threads == A_CORE_EACH
    assert session(end=True, x=np.ones(1, np.float32)).y.tolist() == [1]
