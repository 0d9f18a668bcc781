"""The rules of the house: who imports whom, and what starting costs."""

import subprocess
import sys
import time

import pytest

FRAMEWORKS = ("torch", "tensorflow", "keras", "tf2onnx", "onnxscript")


def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=check)


def test_import_rules_hold():
    done = run("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", check=False)
    assert done.returncode == 0, done.stdout


def test_importing_dlbridge_loads_no_framework():
    code = "import sys, dlbridge, dlbridge.frameworks as f; [f.get(n) for n in f.names()]; print(*sys.modules)"
    done = run("-c", code)
    loaded = set(done.stdout.split())
    assert not loaded & set(FRAMEWORKS)


def test_help_is_quick():
    best = min(_timed() for _ in range(5))
    # 0.25 s is the aim on an idle machine; a loaded CI machine may be slower, importing a framework takes seconds.
    assert best <= 0.6


def _timed() -> float:
    start = time.perf_counter()
    done = run("-m", "dlbridge", "--help")
    assert "convert" in done.stdout
    return time.perf_counter() - start


@pytest.mark.parametrize(("target", "absent"), [("pytorch", "tensorflow"), ("keras", "torch")])
def test_converting_to_one_framework_does_not_import_the_other(target, absent, tmp_path):
    code = (
        "import sys; from dlbridge.cli import cli\n"
        f"cli(['convert', 'examples/mlp_784.yaml', '--to', '{target}', '-o', r'{tmp_path / 'out'}'], "
        "standalone_mode=False)\n"
        f"assert '{absent}' not in sys.modules"
    )
    done = run("-c", code, check=False)
    assert done.returncode == 0, done.stderr
