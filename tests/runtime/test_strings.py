"""Inputs of strings: as Python's, numpy's or bytes of UTF-8; nothing else is taken for text."""

from __future__ import annotations

import numpy as np
import pytest

from dlbridge import runtime
from dlbridge.errors import SignatureError
from tests.helpers.onnx_text import save_graph

TEXTS = ["the cat", "", "É\u00a0日本 😀"]


@pytest.fixture
def session(tmp_path):
    return runtime.load(
        save_graph(tmp_path / "echo.onnx", "(string[n] text) => (string[n] same)", "same = Identity(text)")
    )


GIVEN = {
    "a list": TEXTS,
    "objects": np.array(TEXTS, dtype=object),
    "numpy's strings": np.array(TEXTS),
    "bytes": np.array([text.encode() for text in TEXTS], dtype=object),
    "numpy's bytes": np.array([text.encode() for text in TEXTS]),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_strings_of_every_kind_are_taken(session, kind):
    assert session(text=GIVEN[kind])["same"].tolist() == TEXTS


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (np.array(["a", 3], dtype=object), r"input 'text': it holds a int, the model takes text: string\[n\]"),
        (np.array(["a", None], dtype=object), "it holds a NoneType"),
        (np.array([b"\xff\xfe"], dtype=object), "a string is no UTF-8"),
        (np.array([1, 2]), "the array is int64"),
    ],
)
def test_what_is_no_string_is_refused(session, given, why):
    with pytest.raises(SignatureError, match=why):
        session(text=given)
