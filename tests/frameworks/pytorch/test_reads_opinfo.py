"""PyTorch's own samples of its operations (OpInfo): each is read and written as PyTorch computes it, or refused.

What is refused is listed by name, so that a rule that is lost, or one more than is said, shows.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from torch.testing._internal.common_methods_invocations import op_db as database
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import DlbridgeError
from dlbridge.frameworks.pytorch.arrays import to_array
from tests.helpers.paths import GOLDEN

#: How many samples of an operation and a dtype, of the dozens that there are: the first, the last, and between.
SAMPLES = 3

#: What they give is not one right answer, or no tensor of numbers.
NO_ANSWER = {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}

#: Of several that are equal the standard takes the first, torch any.
TIES = {"topk-int64", "kthvalue-int64"}

#: Of which a sample is refused: matrices taken apart, special functions, random numbers, convolutions of integers, ...
REFUSED = set((GOLDEN / "opinfo_refused.txt").read_text().splitlines())


class Call(torch.nn.Module):
    """A call of an operation: its tensors are the module's inputs, all else is fixed."""

    def __init__(self, operation, sample):
        super().__init__()
        self.operation = operation
        leaves, self.spec = tree_flatten(((sample.input, *sample.args), dict(sample.kwargs)))
        self.tensors = [leaf.detach() for leaf in leaves if isinstance(leaf, torch.Tensor)]
        self.leaves = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self.places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

    def forward(self, *tensors):
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, keywords = tree_unflatten(leaves, self.spec)
        return self.operation(*args, **keywords)


def samples(operation, dtype):
    """Calls that PyTorch runs and exports, with what they give: real tensors that are not empty."""
    torch.manual_seed(0)
    found = list(itertools.islice(operation.sample_inputs("cpu", dtype), 100))  # of pools there are thousands
    chosen = sorted({round(i * (len(found) - 1) / max(SAMPLES - 1, 1)) for i in range(SAMPLES)}) if found else []
    for sample in (found[place] for place in chosen):
        module = Call(operation.op, sample).eval()
        if not module.tensors or any(t.numel() == 0 or t.is_complex() or t.is_sparse for t in module.tensors):
            continue
        try:
            wanted = tree_leaves(module(*(t.clone() for t in module.tensors)))
            program = torch.export.export(module, tuple(t.clone() for t in module.tensors))
        except Exception:  # torch.export does not take it: there is nothing to read
            continue
        tensors = [v for v in wanted if isinstance(v, torch.Tensor)]
        if tensors and not any(v.is_complex() or v.is_sparse for v in tensors):
            yield module, program, tensors


def outcome(module, program, wanted) -> str:
    """Either ``right`` or ``refused``, or what is wrong."""
    pytorch = frameworks.get("pytorch")
    try:
        model = dlbridge.load(program)
        live = pytorch.load(pytorch.write(model))
    except DlbridgeError:
        return "refused"
    arrays = {v.name: t.numpy() for v, t in zip(model.inputs, module.tensors, strict=True)}
    answers = list(pytorch.run(live, arrays).values())
    if len(answers) != len(wanted):
        return f"{len(answers)} outputs for {len(wanted)}"
    for answer, right in zip(answers, wanted, strict=True):
        right = to_array(right)
        if (answer.shape, answer.dtype) != (right.shape, right.dtype):
            return f"{answer.dtype}{answer.shape} for {right.dtype}{right.shape}"
        if not np.allclose(answer, right, rtol=1e-4, atol=1e-5, equal_nan=True):
            return f"{answer} for {right}"
    return "right"


CASES = {
    f"{'.'.join(filter(None, (o.name, o.variant_test_name)))}-{str(dtype).removeprefix('torch.')}": (o, dtype)
    for o in database
    for dtype in (torch.float32, torch.int64)
    if o.supports_dtype(dtype, "cpu") and o.name not in NO_ANSWER
}
CASES = {name: case for name, case in CASES.items() if name not in TIES}


#: Integers of operations that take floats too have the same rules: they are run where slow tests are.
INTEGERS = {
    name for name, (o, dtype) in CASES.items() if dtype == torch.int64 and o.supports_dtype(torch.float32, "cpu")
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in INTEGERS else ()) for name in CASES]
)
def test_operation(name):
    operation, dtype = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {f"{place}: {outcome(*call)}" for place, call in enumerate(samples(operation, dtype))}
    wrong = {o for o in found if not o.endswith((": right", ": refused"))}
    assert not wrong
    refused = any(o.endswith("refused") for o in found)
    assert refused == (name in REFUSED), found
