"""The rules of the house: who imports whom, and what starting costs."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import dlbridge

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
    # 0.15 s of a processor is the aim on an idle machine; importing a framework takes seconds.
    assert min(_processor_time("--help") for _ in range(3)) <= 0.3
    assert min(_processor_time("convert", "--help") for _ in range(3)) <= 0.3


def _processor_time(*arguments: str) -> float:
    """Seconds, which do not count what else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("-m", "dlbridge", *arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Frameworks:" in done.stdout
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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


def test_no_code_tells_ops_apart_by_their_name_alone():
    package = Path(dlbridge.__file__).parent
    the_place = {package / "ops" / "keys.py", package / "ops" / "extension.py"}
    found = []
    for path in sorted({*package.rglob("*.py")} - the_place):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        names = (n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "op_type")
        read = (n for n in names if isinstance(n.ctx, ast.Load))
        found += [f"{path}:{n.lineno}" for n in read if not (_is_text(n, above) or _has_domain_beside(n, above))]
    assert not found, f"an op is its domain and its name, use dlbridge.ops.keys: {found}"


def _is_text(name: ast.Attribute, above: dict[ast.AST, ast.AST]) -> bool:
    """Whether the name of an op goes into a message, or into the name of a node, and is compared with nothing."""
    node, around = name, above[name]
    if isinstance(around, ast.Attribute) and around.attr == "lower":
        node, around = above[around], above[above[around]]
    if isinstance(around, ast.BoolOp) and isinstance(around.op, ast.Or):  # node.name or node.op_type
        return not isinstance(above[around], ast.Compare)
    if node is not name:
        return not isinstance(around, ast.Compare | ast.Subscript | ast.Match)
    return isinstance(around, ast.FormattedValue)


def _has_domain_beside(name: ast.Attribute, above: dict[ast.AST, ast.AST]) -> bool:
    """Whether ``node.op_type`` is handed on together with ``node.domain``, or picks the op of an extension."""
    around = above[name]
    beside = [k.value for k in above[around].keywords] if isinstance(around, ast.keyword) else ast.walk(around)
    return any(isinstance(n, ast.Attribute) and n.attr == "domain" for n in beside)
