"""Converting ResNet-50 from PyTorch to Keras, beside torch.export alone and beside other converters.

Each case runs in a process of its own, which has imported its frameworks, and started TensorFlow and torch.export (each
imports more when it is first used), before the clock starts. "keras alone" makes the same architecture with random
weights: what Keras itself costs, on top of torch.export, where a live model is made. Needs torchvision
(``pip install --no-deps torchvision==0.28.0``); other converters are measured where they are installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

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
    for case, (imports, timed) in CASES.items():
        measured = [
            _measure(imports, timed) for _ in range(5 if not rows or case.startswith(("dlbridge", "keras")) else 1)
        ]
        fine = [m for m in measured if not isinstance(m, str)]
        if not fine:
            rows.append({"case": case, "seconds": "-", "ratio": "-", "memory / weights": measured[0]})
            continue
        seconds, memory = min(m[0] for m in fine), min(m[1] for m in fine)
        export = rows[0]["seconds"] if rows else seconds
        rows.append({"case": case, "seconds": seconds, "ratio": seconds / export, "memory / weights": memory})  # type: ignore[operator]
    return rows


def _measure(imports: str, timed: str) -> tuple[float, float] | str:
    program = _PROGRAM.format(
        root=str(ROOT), sweeps=str(ROOT / "tests" / "sweeps"), imports=imports, timed=textwrap.dedent(timed)
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["failed"])[-1][:60]
    return tuple(json.loads(done.stdout.strip().splitlines()[-1]))  # type: ignore[return-value]
