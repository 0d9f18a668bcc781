"""Inference of written models beside the same architecture written by hand: Keras' own applications, torchvision's.

Each pair runs in a process of its own, taking turns, so the ratio means something. Keras is written in native layout.
Like is compared with like, where the two differ in what is no matter of writing:

- ``keras.applications.ResNet50`` has its strides in the first convolution of a block, torchvision's in the second
  (6 % more work): here torchvision's has them in the first too. Keras' convolutions have biases beside their
  normalisation; beside PyTorch written from Keras, torchvision's get some as well. Keras pads before its pooling.
- torchvision's ReLUs write into what they read, which hooks on the layer before would see. No written model does so,
  nor does the original beside PyTorch written from Keras: 3 to 5 % on this CPU.
- glibc gives large tensors back to the system, or not, by the order in which they end: the page faults are up to 20 %
  either way. Here it keeps them.
- ``MobileNetV3``, ``ConvNeXt`` and ``EfficientNet`` scale their images in Keras, which is left out.

Needs torchvision, which ``make bench`` installs; torch.compile is left out where no C++ compiler is.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.cases import Failure, numbers_of

ROOT = Path(__file__).parent.parent
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1", "CUDA_VISIBLE_DEVICES": ""}
_ENVIRONMENT |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(10**11)}

_PROGRAM = """
import json, sys
sys.path[:0] = [{root!r}, {sweeps!r}]
import torchvision_cpu, torchvision, dlbridge
from bench.timing import seconds

def strides_first(module):
    for stage in (module.layer2, module.layer3, module.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return module

{timed}
print(json.dumps(times))
"""

_KERAS = """
import keras, tensorflow as tf
module = torchvision.models.{torch}(weights=None).eval()
{changed}
written = dlbridge.load(module, inputs={{"x": "float32[batch,3,224,224]"}}).to_keras(io_layout="native")
original = keras.applications.{keras}(weights=None, classifier_activation=None{options})
{cut}
x = tf.random.normal((8, 224, 224, 3))
# warm by the call that is timed: a graph of its own for each
calls = [tf.function(lambda x, m=m: m(x, training=False), jit_compile=False) for m in (written, original)]
times = seconds(*(lambda f=f: f(x) for f in calls), repeat=12)
"""

#: torchvision's name -> the name in ``keras.applications``, and what makes the two the same.
_APPLICATIONS = {
    "resnet50": {"keras": "ResNet50", "changed": "strides_first(module)"},
    "mobilenet_v2": {"keras": "MobileNetV2"},
    "mobilenet_v3_large": {"keras": "MobileNetV3Large", "options": ", include_preprocessing=False"},
    "efficientnet_b0": {
        "keras": "EfficientNetB0",
        "cut": 'original = keras.Model(original.get_layer("stem_conv_pad").input, original.output)',
    },
    "convnext_tiny": {"keras": "ConvNeXtTiny", "options": ", include_preprocessing=False"},
}

_TORCH = """
import torch
module = torchvision.models.resnet50(weights=None).eval()
inputs = {{"x": "float32[batch,3,224,224]"}}
{route}
x = torch.randn(8, 3, 224, 224)
calls = [(written, x{turned}), (module, x)]
if {compiled}:
    calls = [(torch.compile(m), x) for m, x in calls]
with torch.inference_mode():
    times = seconds(*(lambda m=m, x=x: m(x) for m, x in calls), repeat=12)
"""

#: How a model comes to be written in PyTorch.
_ROUTES = {
    "PyTorch": "written = dlbridge.load(module, inputs=inputs).to_pytorch()",
    "ONNX": """
import tempfile
path = tempfile.mkdtemp() + "/resnet50.onnx"
torch.onnx.export(module, (torch.randn(2, 3, 224, 224),), path, dynamo=True, verbose=False)
written = dlbridge.load(path).to_pytorch()
""",
    "Keras": """
import keras
original = keras.applications.ResNet50(weights=None, classifier_activation=None)
written = dlbridge.load(original).to_pytorch()
strides_first(module)
for one in module.modules():
    if isinstance(one, torch.nn.Conv2d):
        one.bias = torch.nn.Parameter(torch.zeros(one.out_channels))
    if isinstance(one, torch.nn.ReLU):
        one.inplace = False
""",
}


def run() -> list[dict[str, object]]:
    """Milliseconds for 8 images of 224 by 224, written and original, and their ratio."""
    return [_row(name, _measure(timed)) for name, timed in cases().items()]


def cases() -> dict[str, str]:
    """Name of each case -> the code that times it."""
    found = {}
    for torch, keras in _APPLICATIONS.items():
        given = {"changed": "", "options": "", "cut": "", **keras}
        found[f"Keras, {torch}"] = _KERAS.format(torch=torch, **given)
    for source, route in _ROUTES.items():
        for compiled in (False, True) if shutil.which("c++") or shutil.which("g++") else (False,):
            name = f"PyTorch from {source}, resnet50, {'torch.compile' if compiled else 'eager'}"
            turned = ".permute(0, 2, 3, 1)" if source == "Keras" else ""
            found[name] = _TORCH.format(route=route, compiled=compiled, turned=turned)
    return found


def _row(name: str, measured: list[float] | Failure) -> dict[str, object]:
    if isinstance(measured, Failure):
        return {"case": name, "written ms": "-", "original ms": "-", "ratio": measured}
    written, original = measured
    return {"case": name, "written ms": 1e3 * written, "original ms": 1e3 * original, "ratio": written / original}


def _measure(timed: str) -> list[float] | Failure:
    program = _PROGRAM.format(root=str(ROOT), sweeps=str(ROOT / "tests" / "sweeps"), timed=timed)
    return numbers_of(program, **_ENVIRONMENT)
