"""Inference of written models beside the same architecture written by hand: Keras' own applications, torchvision's.

Each pair runs in a process of its own, taking turns, so the ratio means something. Keras is written in native layout.
Needs torchvision (``pip install --no-deps torchvision==0.28.0``); torch.compile is left out where no C++ compiler is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

_KERAS = """
import keras, tensorflow as tf
module = torchvision.models.{torch}(weights=None).eval()
written = dlbridge.load(module, inputs={{"x": "float32[batch,3,224,224]"}}).to_keras(io_layout="native")
original = keras.applications.{keras}(weights=None, classifier_activation=None)
x = tf.random.normal((8, 224, 224, 3))
# warm by the call that is timed: a graph of its own for each
calls = [tf.function(lambda x, m=m: m(x, training=False), jit_compile=False) for m in (written, original)]
times = seconds(*(lambda f=f: f(x) for f in calls), repeat=12)
"""

_TORCH = """
import torch
module = torchvision.models.{torch}(weights=None).eval()
model = dlbridge.load(module, inputs={{"x": "float32[batch,3,224,224]"}})
{route}
written = model.to_pytorch()
x = torch.randn(8, 3, 224, 224)
pair = [written, module]
if {compiled}:
    pair = [torch.compile(m) for m in pair]
with torch.inference_mode():
    assert (pair[0](x) - pair[1](x)).abs().max() < 1e-3
    times = seconds(*(lambda m=m: m(x) for m in pair), repeat=12)
"""

#: How a model comes to be written in PyTorch.
_ROUTES = {
    "PyTorch": "",
    "ONNX": "import tempfile; path = tempfile.mkdtemp() + '/m.onnx'\nmodel.write('onnx').save(path)\n"
    "model = dlbridge.load(path)",
}

_PROGRAM = """
import json, sys
sys.path[:0] = [{root!r}, {sweeps!r}]
import torchvision_cpu, torchvision, dlbridge
from bench.timing import seconds
{timed}
print(json.dumps(times))
"""


def run() -> list[dict[str, object]]:
    """Milliseconds for 8 images of 224 by 224, written and original, and their ratio."""
    cases = {f"Keras, {a}": _KERAS.format(torch=a, keras=b) for a, b in _APPLICATIONS.items()}
    for source, route in _ROUTES.items():
        for compiled in (False, True) if shutil.which("c++") or shutil.which("g++") else (False,):
            name = f"PyTorch from {source}, resnet50, {'torch.compile' if compiled else 'eager'}"
            cases[name] = _TORCH.format(torch="resnet50", route=route, compiled=compiled)
    return [_row(name, _measure(timed)) for name, timed in cases.items()]


#: torchvision's name -> the name in ``keras.applications``, of the same architecture.
_APPLICATIONS = {"resnet50": "ResNet50", "mobilenet_v2": "MobileNetV2", "convnext_tiny": "ConvNeXtTiny"}


def _row(name: str, measured: list[float] | str) -> dict[str, object]:
    if isinstance(measured, str):
        return {"case": name, "written ms": "-", "original ms": "-", "ratio": measured}
    written, original = measured
    return {"case": name, "written ms": 1e3 * written, "original ms": 1e3 * original, "ratio": written / original}


def _measure(timed: str) -> list[float] | str:
    program = _PROGRAM.format(root=str(ROOT), sweeps=str(ROOT / "tests" / "sweeps"), timed=timed)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["failed"])[-1][:60]
    return json.loads(done.stdout.strip().splitlines()[-1])
