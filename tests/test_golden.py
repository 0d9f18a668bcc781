"""What is printed for the examples. A change in tests/golden/ is reviewed like code.

``DLBRIDGE_UPDATE_GOLDEN=1 pytest tests/test_golden.py`` writes the files anew.
"""

import ast
import os
from pathlib import Path

import pytest

import dlbridge

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_printed_source_is_the_golden_one(example, framework):
    text = dlbridge.load(example).write(framework).text
    ast.parse(text)
    assert max(map(len, text.splitlines())) <= 120
    golden = ROOT / "tests" / "golden" / f"{example.stem}.{framework}.py"
    if os.environ.get("DLBRIDGE_UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_golden_files_are_of_examples_that_exist():
    known = {f"{e.stem}.{f}" for e in EXAMPLES for f in ("pytorch", "keras")}
    assert {p.stem for p in (ROOT / "tests" / "golden").glob("*.py")} == known
