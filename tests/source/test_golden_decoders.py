"""What is printed for decoders of transformers: no arithmetic of masks but in one helper; see ``test_golden``."""

import functools

import numpy as np
import pytest
import torch

import dlbridge
from dlbridge import frameworks
from dlbridge.verification.compare import relative_error
from tests.helpers.golden import assert_golden

pytest.importorskip("transformers")
from tests.helpers.decoders import DECODERS

SIZES = {"batch": 2, "seq": 7, "out": 5}
ARITHMETIC = ("gather_nd", "cumsum(", "log(", "if_large", "logical_not", "~", " <= ", " & ")


@functools.cache
def read(name):
    module = DECODERS[name].module()
    return module, dlbridge.load(module, inputs=DECODERS[name].inputs, cache=False)


def made_inputs(model):
    random, found = np.random.default_rng(0), {}
    for value in model.inputs:
        shape = [size if isinstance(size, int) else SIZES[size.value] for size in value.shape]
        is_float = value.dtype.is_floating_point()
        found[value.name] = random.normal(size=shape).astype("float32") if is_float else random.integers(3, 90, shape)
    if "attention_mask" in found:
        found["attention_mask"] = np.ones_like(found["attention_mask"])
        found["attention_mask"][0, -3:] = 0
    return found


def classes_of(text):
    """The printed text without its helpers, which stand before the first class."""
    return text[text.index("\nclass ") :]


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "llama")) for n in DECODERS])
def test_a_decoder_reads_like_one(name, framework):
    module, model = read(name)
    source = model.write(framework)
    assert_golden(source.text, f"{name}.{framework}.py")
    assert DECODERS[name].helper in classes_of(source.text)
    assert not any(word in classes_of(source.text) for word in ARITHMETIC)
    target, arrays = frameworks.get(framework), made_inputs(model)
    found = target.run(target.load(source), arrays)
    with torch.no_grad():
        wanted = module(**{key: torch.from_numpy(a) for key, a in arrays.items()}).logits
    assert relative_error(found["logits"], wanted.numpy()) < 1e-5
