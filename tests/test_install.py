"""The package as a user of the runtime gets it: installed without extras into an environment of its own."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers.paths import EXAMPLES, ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder of the programs of an environment that holds dlbridge and its core dependencies alone."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(ROOT / "dlbridge", source / "dlbridge", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    programs = folder / "venv" / "bin"
    pip = [
        programs / "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-c",
        ROOT / "constraints.txt",
        source,
    ]
    subprocess.run(pip, check=True, capture_output=True)
    return programs


def test_the_package_says_that_it_is_typed(installed):
    (found,) = (installed.parent / "lib").rglob("dlbridge/py.typed")
    assert found.is_file()


def test_the_runtime_needs_no_extra(installed, tmp_path):
    def run(*arguments, code=0):
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done

    model = EXAMPLES / "mlp_784.yaml"
    # without torch the certificate is by the standard's reference evaluator
    run(installed / "dlbridge", "convert", model, "--to", "onnx", "-o", "repo/mlp")
    certificate = json.loads((tmp_path / "repo" / "mlp" / "certificate.json").read_text())
    assert certificate["passed"]
    assert certificate["judge"] == "the ONNX reference evaluator"

    # what is not installed is not tried, and that is said
    report = json.loads(run(installed / "dlbridge", "verify", model, "--json").stdout)
    assert {check["route"] for check in report["checks"]} == {"onnx"}
    assert report["left_out"]["pytorch"] == "torch is not installed (pip install 'dlbridge[torch]')"

    x = np.random.default_rng(0).normal(size=(5, 784)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    run(installed / "dlbridge", "run", "repo/mlp", "x.npy", "-o", "y.npy")
    code = (
        "import sys, numpy, dlbridge.runtime as r\n"
        "y = r.load('repo/mlp')(image=numpy.load('x.npy'))['probabilities']\n"
        "numpy.save('z.npy', y)\n"
        "print(*sys.modules)"
    )
    modules = run(installed / "python", "-c", code).stdout.split()
    assert not [m for m in modules if m.startswith("dlbridge.frameworks") or m.partition(".")[0] in ("torch", "keras")]
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), np.load(tmp_path / "y.npy"))
    assert np.load(tmp_path / "y.npy").shape == (5, 10)

    missing = run(installed / "dlbridge", "convert", model, "--to", "pytorch", code=1)
    assert missing.stderr == "error: this needs 'torch', which is not installed\n  pip install 'dlbridge[torch]'\n"
