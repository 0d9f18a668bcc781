"""Modules whose authors' variables are called what printed files call theirs compute the same, written.

Two blocks of one class differ in a number, so that it becomes an argument of what is printed.
"""

import importlib.util
import itertools
import linecache
import random
import textwrap

import numpy as np
import pytest

import dlbridge
from dlbridge import frameworks

torch = pytest.importorskip("torch")

#: What printed files of some framework import, define or take, and names of Python's own.
NAMES = (
    *("ops", "layers", "keras", "math", "np", "jnp", "jax", "nnx", "torch", "nn", "F", "attention", "split_heads"),
    *("name", "value", "values", "units", "kwargs", "args", "training", "mask", "rngs", "config", "shape", "dtype"),
    *("x", "out", "y", "model", "build_model", "block", "Block", "state", "step", "key", "axis", "size", "weights"),
    *("build", "call", "index", "scale", "factor", "target_shape", "strides", "h", "i", "i_1", "outputs", "outputs_1"),
    *("len", "max", "min", "list", "slice", "int", "float", "tuple", "zip", "enumerate", "setattr", "getattr", "super"),
    *("layer", "linear", "input", "inputs", "self_", "lambda_", "largest", "data", "n", "batch", "length", "_"),
)
#: Statements of a block, by what it has so far: ``last`` is its newest variable, ``first`` its argument.
STEPS = (
    "{last}.tanh() + self.mix({first}) * self.factor",
    "{last}.softmax(-1) * self.factor",
    "({last} + {first}).sigmoid()",
    "{last}[:, :3].repeat(1, 2) - {first}",
    "{last}.view({last}.shape[0], 2, 3).transpose(1, 2).flatten(1) * (self.factor + 1)",
)
NET = """
from torch import nn

class Mixing(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor, self.mix = factor, nn.Linear(6, 6)
        self.steps = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))

    def forward(self, {first}):
{statements}
        return {last} + {first}, {before}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = Mixing(0.5), Mixing(1.5)

    def forward(self, x):
        x, y = self.one(x)
        z, w = self.other(x)
        return z * y, w
"""


def _statements(names):
    first = names[0]
    for index, (last, made) in enumerate(itertools.pairwise(names)):
        yield f"{made} = {STEPS[index % len(STEPS)].format(last=last, first=first)}"
        if index % 7 == 3:
            yield f"for step_of_it in self.steps:\n    {made} = step_of_it({made}) + {last}"
        if index % 11 == 5:
            yield f"for turn in range(4):\n    {made} = {made} * {last}[:, turn:turn + 1] + {first}"


def _module(seed, folder):
    names = random.Random(seed).sample(NAMES, 12)
    body = textwrap.indent("\n".join(_statements(names)), " " * 8)
    file = folder / f"awkward_{seed}.py"
    file.write_text(NET.format(first=names[0], last=names[-1], before=names[-2], statements=body))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    linecache.checkcache(str(file))
    torch.manual_seed(seed)
    return found.Net().eval()


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(s, marks=pytest.mark.slow) for s in range(4, 40))])
@pytest.mark.parametrize("target", ["pytorch", "keras", "nnx"])
def test_a_module_computes_the_same_whatever_its_variables_are_called(target, seed, tmp_path):
    module = _module(seed, tmp_path)
    model = dlbridge.load(module, inputs={module.forward.__code__.co_varnames[1]: "float32[batch,6]"})
    x = np.random.default_rng(seed).standard_normal((3, 6), np.float32)
    wanted = [tensor.detach().numpy() for tensor in module(torch.from_numpy(x))]
    framework = frameworks.get(target)
    found = framework.run(framework.load(framework.write(model)), {model.inputs[0].name: x})
    for array, right in zip(found.values(), wanted, strict=True):
        np.testing.assert_allclose(array, right, rtol=1e-4, atol=1e-5)
