"""A third party adds a framework through an entry point, without touching this repository."""

import os
import subprocess
import sys

from tests.helpers.paths import ROOT

PLUGIN = ROOT / "tests" / "plugin"


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PLUGIN), str(ROOT)])}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )


def test_a_plugged_in_framework_is_known_and_converts(tmp_path):
    done = run("-m", "dlbridge", "convert", "examples/mlp_784.yaml", "--to", "numpy", "-o", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"model.py", "weights.npz", "certificate.json"}
    code = f"""
import numpy as np, runpy
written = runpy.run_path(r"{tmp_path}/out/model.py")["model"]
weights = np.load(r"{tmp_path}/out/weights.npz")
x = np.random.default_rng(0).normal(size=(3, 784)).astype(np.float32)
(y,) = written(x, **weights)
import dlbridge
from dlbridge import frameworks
onnx = frameworks.get("onnx")
model = dlbridge.load("examples/mlp_784.yaml")
(want,) = onnx.run(onnx.load(model.write("onnx")), {{model.inputs[0].name: x}}).values()
np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_a_framework_that_nobody_knows_is_named_with_those_that_are():
    done = run("-m", "dlbridge", "convert", "examples/mlp_784.yaml", "--to", "numpi")
    assert done.returncode == 1
    assert "unknown framework 'numpi'" in done.stderr
    assert "did you mean 'numpy'?" in done.stderr
