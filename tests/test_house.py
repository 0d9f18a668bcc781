"""The rules of the house: who imports whom, and what starting costs."""

import ast
import importlib
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import dlbridge
from dlbridge import frameworks

#: The modules that others may rely on (docs/plugins.md).
PUBLIC = [
    "dlbridge",
    "dlbridge.api",
    "dlbridge.conformance.backend",
    "dlbridge.errors",
    "dlbridge.files",
    "dlbridge.frameworks",
    "dlbridge.model",
    "dlbridge.ops.keys",
    "dlbridge.passes.matching",
    "dlbridge.passes.prepare",
    "dlbridge.runtime",
    "dlbridge.source.names",
    "dlbridge.source.program",
    "dlbridge.source.weights",
    "dlbridge.training",
    "dlbridge.verification",
]
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
    # 0.15 s of a processor is the aim on an idle machine, a busy one takes twice that; a framework takes seconds.
    assert min(_processor_time("--help") for _ in range(3)) <= 0.5
    assert min(_processor_time("convert", "--help") for _ in range(3)) <= 0.5


def _processor_time(*arguments: str) -> float:
    """Seconds, which do not count what else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("-m", "dlbridge", *arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Frameworks" in done.stdout
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


#: Where the name of a framework is spelled outside its own folder, and why.
SPELLED = {
    "frameworks/__init__.py": "the registry",
    "model.py": "to_pytorch and to_keras, short for Model.to",
    "frameworks/onnx/reader.py": "what PyTorch's exporter calls itself in the files that it writes",
}


def test_no_framework_is_spelled_outside_its_own_folder():
    package = Path(dlbridge.__file__).parent
    names = [name for name in frameworks.names() if name != frameworks.STANDARD]
    words = re.compile(rf"(?<![\w./-])({'|'.join(names)})(?![\w-])")
    modules = re.compile(rf"dlbridge\.frameworks\.({'|'.join(names)})\b")
    found = []
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        own = place.parts[:1] == ("frameworks",) and place.parts[1] in names
        if not own and str(place) not in SPELLED:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += [f"{place}:{line}: {text}" for line, text in _texts(tree) if words.search(text)]
            found += [f"{place}:{line}: {text}" for line, text in _imports(tree) if modules.match(text)]
    assert not found, f"frameworks are an open set, ask dlbridge.frameworks: {found}"


def _texts(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, text) of the strings of a module, but for docstrings and other strings that stand alone."""
    alone = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in alone)
    return [(node.lineno, node.value) for node in constants if isinstance(node.value, str)]


def _imports(tree: ast.AST) -> list[tuple[int, str]]:
    found = [(n.lineno, a.name) for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    return found + [(n.lineno, n.module or "") for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]


def test_what_is_said_to_be_public_is_there():
    for name in PUBLIC:
        module = importlib.import_module(name)
        missing = [word for word in module.__all__ if not hasattr(module, word)]
        assert not missing, f"{name}: {missing}"


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


def test_code_is_written_of_nodes_as_they_are():
    """Decisions are passes: what writes the code of a node leaves no note on a node or value for others to read."""
    package = Path(dlbridge.__file__).parent
    writes = [path for path in package.glob("frameworks/*/*") if path.name in ("writes", "rules.py", "writer.py")]
    found = []
    for root in [*writes, package / "source"]:
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            notes = (node for node in nodes if isinstance(node, ast.Attribute) and node.attr == "meta")
            found += [f"{path.relative_to(package)}:{node.lineno}" for node in notes]
    assert not found, f"a decision belongs in a pass, which says it in an attribute: {found}"


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
