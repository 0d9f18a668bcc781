"""What is used of PyTorch's private API is there in the installed version, and is used in ``compat`` alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from dlbridge.frameworks.pytorch import compat
from tests.helpers.paths import ROOT

FOLDER = Path(compat.__file__).parent
#: ``torch._check`` is documented; ops whose names begin with an underscore are called by that name.
PUBLIC = re.compile(r"torch\._check|torch\.ops\..*")


def private_names(tree: ast.AST) -> Iterator[str]:
    """``torch._C`` and the like, and modules of PyTorch with an underscore that are imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch":
            yield from (
                f"{node.module}.{a.name}" for a in node.names if re.search(r"\._[a-z]", f"{node.module}.{a.name}")
            )
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if re.fullmatch(r"torch(\.\w+)*\._[a-zA-Z]\w*", text) and not PUBLIC.fullmatch(text):
                yield text


def test_private_names_are_used_in_one_place():
    found = {}
    for file in FOLDER.rglob("*.py"):
        names = sorted(set(private_names(ast.parse(file.read_text(encoding="utf-8")))))
        if names:
            found[file.relative_to(FOLDER).as_posix()] = names
    assert set(found) == {"compat.py"}


def test_all_that_is_offered_is_there():
    assert None not in vars(compat).values()


def test_the_installed_version_is_one_that_is_supported():
    oldest = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text()).group(1)
    assert tuple(map(int, torch.__version__.split(".")[:2])) >= tuple(map(int, oldest.split(".")))


def test_schemas_overloads_and_memory():
    add = torch.ops.aten.add_.Tensor
    assert [a.name for a in compat.schema(add).arguments] == ["self", "other", "alpha"]
    assert compat.schema(add).arguments[0].alias_info.is_write
    assert compat.overload_name(add) == "Tensor"
    assert compat.schema(len) is None
    x = torch.zeros(2, 3)
    assert compat.memory_of(x) == compat.memory_of(x[0])
    assert compat.memory_of(x) != compat.memory_of(x.clone())


def test_tables_of_the_dispatcher():
    assert "aten::add.Tensor" in compat.operator_names()
    assert compat.has_kernel("aten::matmul", "CompositeImplicitAutograd")
    assert torch.ops.aten.addcmul.default in compat.core_decompositions()
