"""What ``dlbridge verify`` costs beside the forward passes that it makes, and the memory that it takes."""

from __future__ import annotations

from bench.cases import Failure, numbers_of

#: Model -> the code that makes its module, its input.
MODELS = {
    "ResNet-50, all sets of inputs": ("torchvision.models.resnet50(weights=None)", "float32[batch,3,224,224]", "full"),
    "ResNet-50, those of a conversion": (
        "torchvision.models.resnet50(weights=None)",
        "float32[batch,3,224,224]",
        "quick",
    ),
    "ten dense layers, 400 MB": (
        "torch.nn.Sequential(*(torch.nn.Linear(3162, 3162) for _ in range(10)), torch.nn.Tanh())",
        "float32[batch,3162]",
        "quick",
    ),
    "one dense layer, 400 MB": (
        "torch.nn.Sequential(torch.nn.Linear(10000, 10000), torch.nn.Tanh())",
        "float32[batch,10000]",
        "quick",
    ),
}
#: Prints the seconds in all and of the forward passes, the bytes above what was held before, and those of the weights.
_PROGRAM = """
import json, os, threading, time
import torch
from tests.sweeps import torchvision_cpu
import torchvision, keras, tensorflow
import dlbridge
from dlbridge.verification import compare, judge, routes

module, spec, battery = {make}.eval(), {spec!r}, {battery!r}
passes = [0.0]

def timed(cls):
    plain = cls.run
    def run(self, arrays):
        start = time.process_time()
        try:
            return plain(self, arrays)
        finally:
            passes[0] += time.process_time() - start
    cls.run = run

timed(routes.Route)
timed(judge.Judge)
dlbridge.verify(torch.nn.Linear(2, 2), read={{"inputs": {{"input": "float32[batch,2]"}}}}, battery="quick")
page = os.sysconf("SC_PAGE_SIZE")
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * page
held, peak, done = resident(), [0], []

def watch():
    while not done:
        peak[0] = max(peak[0], resident())
        time.sleep(0.01)

watching = threading.Thread(target=watch)
watching.start()
passes[0], start = 0.0, time.process_time()
name = "x" if "224" in spec else "input"
report = dlbridge.verify(module, read={{"inputs": {{name: spec}}}}, battery=battery)
seconds = time.process_time() - start
done.append(True)
watching.join()
report.require()
weights = sum(p.numel() * p.element_size() for p in module.parameters())
print(json.dumps([seconds, passes[0], peak[0] - held, weights]))
"""


def run() -> list[dict[str, object]]:
    """A process of its own for each model."""
    rows = []
    for name, (make, spec, battery) in MODELS.items():
        found = numbers_of(_PROGRAM.format(make=make, spec=spec, battery=battery))
        if isinstance(found, Failure):
            rows.append({"model": name, "verify, s": found})
            continue
        seconds, passes, memory, weights = found
        row = {"model": name, "verify, s": seconds, "forward passes, s": passes, "ratio": seconds / passes}
        rows.append({**row, "memory / weights": memory / weights})
    return rows
