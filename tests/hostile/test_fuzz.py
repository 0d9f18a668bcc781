"""A slice of the fuzz (``make fuzz``): mutants of files of every kind are read, or refused in words, soon."""

import time

import pytest

from tests.helpers import fuzz


@pytest.mark.parametrize(
    ("kind", "count"), [("onnx", 60), ("yaml", 60), ("saved", 60), ("npz", 60), ("pt2", 15), ("keras", 10)]
)
def test_mutants_are_read_or_refused(kind, count, tmp_path):
    known = fuzz.seeds(tmp_path, [kind])
    known[kind][1](known[kind][0], tmp_path)
    for number in range(count):
        begun = time.monotonic()
        wrong = fuzz.tried(kind, number, 1, known, tmp_path)
        assert wrong is None, f"mutant {number}: {wrong}"
        assert time.monotonic() - begun < fuzz.SECONDS
