"""What is printed for well-known architectures that are read from PyTorch; see ``test_golden``."""

import functools

import numpy as np
import pytest
import torch

import dlbridge
from dlbridge import frameworks
from dlbridge.verification.compare import relative_error
from tests.helpers.golden import FRAMEWORKS, assert_golden
from tests.helpers.golden_models import MODELS

BATCH, PAST, NEW = 2, 5, 3


@functools.cache
def read(name):
    golden = MODELS[name]
    module = golden.module()
    return module, dlbridge.load(module, inputs=golden.inputs)


def made_inputs(model):
    """Random numbers for the inputs, by name."""
    rng, sizes = np.random.default_rng(0), {"batch": BATCH, "past": PAST, "new": NEW}
    found = {}
    for value in model.inputs:
        shape = [s if isinstance(s, int) else sizes[s.value] for s in value.shape]
        if value.dtype.is_floating_point():
            found[value.name] = rng.normal(size=shape).astype("float32")
        else:
            found[value.name] = rng.integers(0, 30, shape)
    return found


def original(module, arrays):
    """What the module makes of the inputs, the ones named ``cache.0``, ``cache.1``, ... as a list."""
    tensors = [torch.from_numpy(a) for a in arrays.values()]
    alone = sum("." not in name for name in arrays)
    given = [*tensors[:alone], tensors[alone:]] if tensors[alone:] else tensors
    with torch.no_grad():
        result = module(*given)
    return torch.utils._pytree.tree_leaves(result)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", MODELS)
def test_printed_source_is_the_golden_one(name, framework):
    module, model = read(name)
    source = model.write(framework)
    assert_golden(source.text, f"{name}.{framework}.py")
    target, arrays = frameworks.get(framework), made_inputs(model)
    found = target.run(target.load(source), arrays)
    for value, want in zip(model.outputs, original(module, arrays), strict=True):
        assert relative_error(found[value.name], want.numpy()) < 1e-5
