"""A large model is verified with at most two models of memory beside the original."""

import logging
import os
import subprocess
import sys

import keras
import ml_dtypes
import numpy as np
import onnx.parser
import pytest
import torch

import dlbridge
from dlbridge.frameworks.keras import runner as keras_runner
from dlbridge.frameworks.keras import variables as keras_variables
from dlbridge.frameworks.onnx import runner as onnx_runner
from dlbridge.frameworks.pytorch import exact
from dlbridge.ops import evaluator
from dlbridge.verification import weight_check


@pytest.fixture
def all_are_large(monkeypatch):
    """Treat small models as large ones."""
    monkeypatch.setattr(evaluator, "LARGE", 0)
    monkeypatch.setattr(onnx_runner, "LARGE", 0)
    monkeypatch.setattr(exact, "_SHARED", 1)


def test_the_evaluator_makes_weights_float64_for_the_nodes_that_read_them(monkeypatch):
    graph = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        g (float[2] x, bool c) => (float[2] y, float[2] w)
        <float[2] w = {3, 4}, float[2] v = {0.1, 5}, float[2] u = {7, 8}> {
            a = Mul(x, v)
            b = If (c) <
                then_branch = t () => (float[2] t1) { t1 = Add(a, u) },
                else_branch = e () => (float[2] e1) { e1 = Neg(w) }
            >
            y = Sub(b, v)
        }""")
    model = dlbridge.load(graph).ir
    given = [{"x": np.array([1, 2], np.float32), "c": np.array(c)} for c in (True, False)]
    wanted = [evaluator.Evaluator(model)(arrays) for arrays in given]
    monkeypatch.setattr(evaluator, "LARGE", 0)
    run = evaluator.Evaluator(model)
    for arrays, right in zip(given, wanted, strict=True):
        found = run(arrays)
        assert found.keys() == right.keys() and all(a.dtype == np.float64 for a in found.values())
        for name, array in found.items():
            np.testing.assert_array_equal(array, right[name])


class Dense(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(7, 4)
        self.dense = torch.nn.Linear(4, 3)

    def forward(self, ids):
        return self.dense(self.table(ids)) @ self.dense.weight.view(3, 4)


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(7, 4)
        self.lstm = torch.nn.LSTM(4, 3, batch_first=True)

    def forward(self, ids):
        return self.lstm(self.table(ids))[0]


class Clamped(Dense):
    def forward(self, ids):
        self.dense.weight.data.clamp_(-0.1, 0.1)
        return self.dense(self.table(ids))


@pytest.mark.parametrize("kind", [Dense, Recurrent, Clamped])
def test_a_module_in_float64_computes_the_same_with_its_own_parameters(kind, monkeypatch):
    module = kind().eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def call(module, arrays):
        return {"y": module(torch.from_numpy(arrays["ids"])).numpy()}

    arrays = {"ids": np.array([[1, 2, 6]])}
    shown, right_shown = [], []
    right = exact.Exact(module, call)(arrays, seen=right_shown)["y"]
    monkeypatch.setattr(evaluator, "LARGE", 0)
    monkeypatch.setattr(exact, "_SHARED", 1)
    run = exact.Exact(module, call)
    found = run(arrays, seen=shown)["y"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, right)
    np.testing.assert_array_equal(shown[-1], right_shown[-1])
    assert run.eps == np.finfo(np.float32).eps
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_large_models_agree_by_all_routes(all_are_large):
    for kind in (Dense, Recurrent):
        model = dlbridge.load(kind().eval(), inputs={"ids": "int64[batch,5]"})
        dlbridge.verify(model, routes=["pytorch", "keras", "onnx"], battery="quick").require()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool", ml_dtypes.bfloat16])
def test_a_large_array_becomes_a_tensor_of_its_own(dtype, monkeypatch):
    monkeypatch.setattr(keras_variables, "_LARGE", 0)
    array = (np.arange(15).reshape(3, 5) % 7).astype(dtype).T
    before = array.copy()
    tensor = keras_variables.to_tensor(array, array.dtype.name)
    array[...] = 1
    found = keras.ops.convert_to_numpy(tensor)
    assert found.dtype == before.dtype
    np.testing.assert_array_equal(found, before)


class Two(torch.nn.Module):
    def forward(self, x, ids):
        return x * 2, ids + 1


@pytest.mark.parametrize("kind", [Dense, Two])
def test_large_inputs_are_run_as_predict_runs_them(kind, monkeypatch):
    inputs = {"x": "float32[batch,2]", "ids": "int64[batch,5]"}
    wanted = inputs if kind is Two else {"ids": "int64[batch,5]"}
    live = dlbridge.load(kind().eval(), inputs=wanted).to_keras()
    given = {name: np.arange(12).reshape(6, 2).astype("float32") for name in wanted if name == "x"}
    given["ids"] = np.arange(30).reshape(6, 5) % 7
    right = keras_runner.run(live, given)
    monkeypatch.setattr(keras_runner, "_LARGE_INPUTS", 0)
    found = keras_runner.run(live, given)
    assert found.keys() == right.keys()
    for name, array in found.items():
        assert array.dtype == right[name].dtype
        np.testing.assert_allclose(array, right[name], rtol=1e-6)


def test_many_sizes_are_run_without_a_word(monkeypatch, caplog):
    monkeypatch.setattr(keras_runner, "_LARGE_INPUTS", 0)
    model = dlbridge.load(torch.nn.Flatten(0, 1).eval(), inputs={"input": "float32[a,b,c]"})
    live = model.to_keras()
    monkeypatch.setattr(logging.getLogger("tensorflow"), "propagate", True)
    for rank in range(1, 9):
        keras_runner.run(live, {"input": np.zeros((rank, 9 - rank, 3), np.float32)})
        live.predict_function = None  # what is compiled anew, TensorFlow warns of
    assert not [record for record in caplog.records if record.name == "tensorflow"]


def test_weights_are_compared_a_few_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(weight_check, "_PIECE", 8)
    wanted = np.arange(60.0).reshape(10, 6)
    found = wanted.copy()
    assert weight_check._differences(wanted, found) == (0, [])
    found[7, 2] += 1
    found[9, 5] += 1
    assert weight_check._differences(wanted, found) == (2, [7, 2])
    assert weight_check._differences(np.float32(1), np.float32(2)) == (1, [])


_SCRIPT = """
import gc, threading, time
import torch, dlbridge

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def read(size, layers):
    layers = [torch.nn.Linear(size, size) for _ in range(layers)]
    return dlbridge.load(torch.nn.Sequential(*layers).eval(), inputs={"input": f"float32[batch,{size}]"})

def watch():
    global peak
    while True:
        peak = max(peak, held())
        time.sleep(0.002)

dlbridge.verify(read(5, 1), battery="quick").require()  # the libraries are in memory
model = read(3000, 4)
gc.collect()
before = peak = held()
threading.Thread(target=watch, daemon=True).start()
dlbridge.verify(model, battery="quick").require()
print((peak - before) / (4 * 3000 * 3000 * 4))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="measures memory by Linux' /proc")
def test_the_memory_of_a_verification_is_two_models_beside_the_original():
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1", "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    assert float(done.stdout.split()[-1]) < 2, done.stdout
