"""What is printed for the examples. A change in tests/golden/ is reviewed like code.

``DLBRIDGE_UPDATE_GOLDEN=1 pytest tests/source/test_golden.py`` writes the files anew.
"""

import ast
import os

import pytest

import dlbridge
from tests.helpers.paths import EXAMPLE_FILES, GOLDEN


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
@pytest.mark.parametrize("example", EXAMPLE_FILES, ids=lambda p: p.stem)
def test_printed_source_is_the_golden_one(example, framework):
    text = dlbridge.load(example).write(framework).text
    ast.parse(text)
    assert max(map(len, text.splitlines())) <= 120
    golden = GOLDEN / f"{example.stem}.{framework}.py"
    if os.environ.get("DLBRIDGE_UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_golden_files_are_of_examples_that_exist():
    known = {f"{e.stem}.{f}" for e in EXAMPLE_FILES for f in ("pytorch", "keras")}
    assert {p.stem for p in GOLDEN.glob("*.py")} == known
