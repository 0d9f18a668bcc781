"""Faults that no set of inputs reaches, and models that remember, are found all the same."""

import dataclasses

import numpy as np
import pytest

from dlbridge import description, frameworks
from dlbridge.verification import verify
from dlbridge.verification.faults import KINDS, conditional, faults
from dlbridge.verification.routes import known, usual

#: The kinds of fault that show for some inputs alone.
CONDITIONAL = {kind.name for kind in KINDS if kind.finds.__module__ == conditional.__name__}

WORDS = """
dlbridge: 1
name: words
inputs: {tokens: {dtype: int64, shape: [batch, 4]}}
nodes:
  - {name: words, op: Embedding, count: 5000, size: 6}
  - {name: fc, op: Linear, features: 3}
outputs: {scores: fc}
"""
SEQUENCE = """
dlbridge: 1
name: sequence
inputs: {x: {dtype: float32, shape: [batch, length, 6]}}
nodes:
  - {name: one, op: Linear, features: 8}
  - {op: Relu}
  - {name: two, op: Linear, features: 3}
outputs: {scores: two}
"""
DENSE = """
dlbridge: 1
name: dense
inputs: {x: {dtype: float32, shape: [batch, 6]}}
nodes:
  - {name: fc, op: Linear, features: 3}
outputs: {scores: fc}
"""


def with_another_row(model, row):
    name = next(name for name, array in model.weights.items() if array.shape == (5000, 6))
    table = np.array(model.weights[name])
    table[row, 2] += 0.5
    faulty = model.clone()
    faulty.set_weights({name: table})
    return faulty


@pytest.mark.parametrize("to", ["pytorch", "keras", "onnx"])
def test_a_wrong_row_of_a_table_that_no_input_reads_is_found(to):
    model = description.load(WORDS)
    right, wrong = (each.write(to) for each in (model, with_another_row(model, 2718)))
    assert verify(model, routes=[to], written={to: right}, battery="quick").passed
    report = verify(model, routes=[to], written={to: wrong}, battery="quick")
    assert not report.passed
    assert "1 of 30000 numbers differ, the first at [2718, 2]" in report.worst()[to].reason
    assert report.departures[to].op == "Embedding"


def test_faults_that_show_for_some_inputs_alone_are_caught():
    model, caught = description.load(SEQUENCE), set()
    for fault in faults(model):
        if fault.kind in CONDITIONAL and fault.kind not in caught:
            report = verify(model, routes=["onnx"], written={"onnx": fault.planted(model).write("onnx")})
            assert not report.passed, str(fault)
            caught.add(fault.kind)
    assert caught == CONDITIONAL - {"two heads exchanged"}


@pytest.mark.pytorch
def test_a_form_that_counts_its_calls_is_refused():
    model = description.load(DENSE)
    source = model.write("pytorch")
    text = f"""

class Counting({source.entry}):
    calls = 0

    def forward(self, *given):
        Counting.calls += 1
        return super().forward(*given) * (1.0 if Counting.calls < 4 else 1.01)
"""
    counting = dataclasses.replace(source, text=source.text + text, entry="Counting")
    report = verify(model, routes=["pytorch"], written={"pytorch": counting}, battery="quick")
    assert not report.passed
    assert "other outputs the second time" in report.worst()["pytorch"].reason


@pytest.mark.pytorch
@pytest.mark.parametrize("mode", ["torch.is_grad_enabled()", "not torch.is_grad_enabled()"])
def test_a_form_that_asks_whether_gradients_are_recorded_is_refused(mode):
    model = description.load(DENSE)
    source = model.write("pytorch")
    text = f"""

class Asking({source.entry}):
    def forward(self, *given):
        asks = {mode} and not torch.is_inference_mode_enabled()
        return super().forward(*given) * (1.01 if asks else 1.0)
"""
    asking = dataclasses.replace(source, text=source.text + text, entry="Asking")
    report = verify(model, routes=["pytorch"], written={"pytorch": asking}, battery="quick")
    assert not report.passed
    assert "other outputs the second time" in report.worst()["pytorch"].reason


def test_where_there_is_a_gpu_written_models_run_on_it_too(monkeypatch):
    import onnxruntime

    from dlbridge.frameworks.onnx import runner

    cuda, asked = "CUDAExecutionProvider", []

    class Session(onnxruntime.InferenceSession):
        """One that says it runs on CUDA, where it was asked to."""

        def __init__(self, model, options, providers):
            self.names = [each if isinstance(each, str) else each[0] for each in providers]
            asked.append(providers)
            super().__init__(model, options, providers=["CPUExecutionProvider"])

        def get_providers(self):
            return self.names

    model = description.load(DENSE)
    assert not any(" on " in name for name in usual(model)), "there is no GPU here"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cuda, "CPUExecutionProvider"])
    runner.devices.cache_clear()
    try:
        assert runner.devices() == (), "a package that has CUDA, on a machine without a GPU"
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        runner.devices.cache_clear()
        assert "onnx on cuda" in known(model)
        report = verify(model, routes=["onnx", "onnx on cuda"], battery="quick")
        assert report.passed
        assert (cuda, {"use_tf32": "0"}) in asked[-1]
        assert "no TF32" in next(check for check in report.checks if check.route == "onnx on cuda").message
        from dlbridge.verification.certificate import certify

        assert certify(report)["hardware"]["providers"] == ["CPU", "CUDA"]
    finally:
        runner.devices.cache_clear()
    assert frameworks.get("pytorch").devices() == ()
