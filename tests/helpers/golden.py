"""Comparison of what is printed with a file in ``tests/golden``."""

from __future__ import annotations

import ast
import os

from tests.helpers.paths import GOLDEN

#: The frameworks whose printed source is kept.
FRAMEWORKS = ("pytorch", "keras", "nnx")


def assert_golden(text: str, name: str) -> None:
    """Check that the source is that of the golden file; with ``DLBRIDGE_UPDATE_GOLDEN`` set, write the file first."""
    ast.parse(text)
    assert max(map(len, text.splitlines())) <= 120
    golden = GOLDEN / name
    if os.environ.get("DLBRIDGE_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
