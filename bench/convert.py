"""Converting ResNet-50 from PyTorch to Keras, beside torch.export alone and beside other converters.

Each case runs in a process of its own, which has imported its frameworks, and started TensorFlow and torch.export (each
imports more when it is first used), before the clock starts. "keras alone" makes the same architecture with random
weights: what Keras itself costs, on top of torch.export, where a live model is made. Needs torchvision, which ``make
bench`` installs; other converters are measured where they are installed.
"""

from __future__ import annotations

import importlib.util
import textwrap
from pathlib import Path

from bench.cases import Failure, numbers_of

ROOT = Path(__file__).parent.parent

#: Case -> (what is imported before the clock starts, what is timed).
CASES = {
    "torch.export": ("import keras", "torch.export.export(module, (x,), dynamic_shapes=({0: Dim('batch')},))"),
    "keras alone": ("import keras", "keras.applications.ResNet50(weights=None)"),
    "dlbridge: source": ("import keras", "dlbridge.load(module, inputs=inputs).write('keras')"),
    "dlbridge: source and live model": ("import keras", "dlbridge.load(module, inputs=inputs).to_keras()"),
    "dlbridge: files": ("import keras", "dlbridge.convert(module, 'keras', out, check=False, read={'inputs': inputs})"),
    "nobuco": (
        "import keras, nobuco",
        "nobuco.pytorch_to_keras(module, args=[x], kwargs=None, inputs_channel_order=nobuco.ChannelOrder.PYTORCH)",
    ),
    "torch.onnx + onnx2tf": (
        "import keras, onnx2tf",
        "torch.onnx.export(module, (x,), out + '.onnx', dynamo=True)\n"
        "onnx2tf.convert(input_onnx_file_path=out + '.onnx', output_folder_path=out, non_verbose=True)",
    ),
}

#: Case -> what it needs that ``make bench`` does not install.
_OTHERS = {"nobuco": "nobuco", "torch.onnx + onnx2tf": "onnx2tf"}

_PROGRAM = """
import json, sys, tempfile, time
sys.path[:0] = [{root!r}, {sweeps!r}]
import torchvision_cpu, torch, torchvision, dlbridge
from torch.export import Dim
import dlbridge.frameworks.pytorch.reader, dlbridge.frameworks.keras.writer
{imports}
keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
torch.export.export(torch.nn.Linear(1, 1), (torch.zeros(2, 1),), dynamic_shapes=({{0: Dim('batch')}},))
module = torchvision.models.resnet50().eval()
weights = sum(t.nbytes for t in module.state_dict().values())
x, inputs = torch.zeros(2, 3, 224, 224), {{"x": "float32[batch,3,224,224]"}}
folder = tempfile.TemporaryDirectory()  # goes at the end: pages to be written back would slow the next case down
out = folder.name + "/out"

def memory(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) * 1024

with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak is counted from here
before, start = memory("VmRSS"), time.perf_counter()
{timed}
seconds = time.perf_counter() - start
print(json.dumps([seconds, (memory("VmHWM") - before) / weights]))
"""


def run() -> list[dict[str, object]]:
    """Seconds, how many times torch.export's, and the added peak memory in sizes of the weights."""
    rows: list[dict[str, object]] = []
    export = None
    for case, (imports, timed) in CASES.items():
        if case in _OTHERS and importlib.util.find_spec(_OTHERS[case]) is None:
            rows.append({"case": case, "seconds": "-", "ratio": "-", "memory / weights": "not installed"})
            continue
        measured = [_measure(imports, timed) for _ in range(1 if case in _OTHERS else 5)]
        failed = next((m for m in measured if isinstance(m, Failure)), None)
        if failed is not None:
            rows.append({"case": case, "seconds": "-", "ratio": "-", "memory / weights": failed})
            continue
        seconds, memory = min(m[0] for m in measured), min(m[1] for m in measured)
        export = export or (seconds if case == "torch.export" else None)
        ratio = seconds / export if export is not None else "-"
        rows.append({"case": case, "seconds": seconds, "ratio": ratio, "memory / weights": memory})
    return rows


def _measure(imports: str, timed: str) -> list[float] | Failure:
    program = _PROGRAM.format(
        root=str(ROOT), sweeps=str(ROOT / "tests" / "sweeps"), imports=imports, timed=textwrap.dedent(timed)
    )
    # What is installed has its bytecode.
    return numbers_of(program, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", PYTHONDONTWRITEBYTECODE=None)
