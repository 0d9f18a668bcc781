"""Printed decoders are no longer than the classes that they came from; how lines are counted: ``code_lines``."""

from __future__ import annotations

import re

import pytest
import torch

from tests.helpers.code_lines import code_lines, lines_of_classes
from tests.helpers.paths import GOLDEN

pytest.importorskip("transformers")
from tests.helpers.decoders import DECODERS

SIZES = {"batch": 2, "seq": 7, "out": 5}
#: How much longer than the original a printed file may be.
MOST = 1.3


def test_what_counts_as_a_line():
    about = '"""What\nit is."""\n\nimport math\n\n\n'
    text = f'{about}def f(x):  # of x\n    """Of x."""\n    # no code\n    return [\n        x\n    ]\n'
    assert code_lines(text) == {4, 7, 10, 11, 12}


def arrays(inputs):
    found = {}
    for name, said in inputs.items():
        dtype, sizes = re.fullmatch(r"(\w+)\[(.*)\]", said).groups()
        shape = [SIZES.get(size) or int(size) for size in sizes.split(",")]
        found[name] = torch.randn(shape) if dtype == "float32" else torch.randint(3, 90, shape)
    return {name: torch.ones_like(a) if name == "attention_mask" else a for name, a in found.items()}


@pytest.mark.parametrize("name", DECODERS)
def test_a_printed_decoder_is_as_short_as_its_original(name):
    decoder = DECODERS[name]
    original = lines_of_classes(decoder.module, arrays(decoder.inputs))
    assert original > 150
    for framework in ("pytorch", "keras"):
        printed = len(code_lines((GOLDEN / f"{name}.{framework}.py").read_text()))
        print(f"{name} {framework}: {printed} lines of {original}, {printed / original:.2f}")
        assert printed <= MOST * original
        assert printed <= decoder.lines[framework]
