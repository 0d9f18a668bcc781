"""A proof can fail: faults that are planted into what is written are refused, and what is right is not."""

import itertools

import numpy as np
import pytest

from dlbridge import api
from dlbridge.errors import DlbridgeError, VerificationError
from dlbridge.verification import judge as judges
from dlbridge.verification.battery import Battery
from tests.helpers import planted

pytestmark = pytest.mark.pytorch

TARGETS = ("pytorch", "keras", "onnx")
#: A smaller change is of the size of float32's own rounding.
REACHED = 3e-5


def _refused(model, to, faulty):
    """Whether what is written of the faulty model is refused as the model."""
    try:
        written = faulty.write(to)
    except DlbridgeError:
        return True  # a graph that is none
    try:
        api._certificate(model, to, written)
    except VerificationError as error:
        assert str(error).strip().splitlines()[1:], "a failure says why"
        return True
    return False


def _reached(model):
    """The faults that change what the model gives for the inputs that it is verified with."""
    sets = Battery(model, {}, None, 0, full=False).cases(judges.find(model, None, []))
    cases = [case.arrays for case in sets]
    return ((what, faulty) for what, faulty in planted.faults(model) if planted.change(model, faulty, cases) > REACHED)


@pytest.mark.parametrize("name", planted.MODELS)
def test_planted_faults_are_refused_and_the_right_model_is_not(name):
    model = planted.read(name)
    targets = TARGETS if name == "images" else ("pytorch", "onnx")
    for to, (what, faulty) in zip(targets, _reached(model), strict=False):
        if to != "pytorch":
            assert api._certificate(model, to, model.write(to))["passed"], to
        assert _refused(model, to, faulty), (what, to)


@pytest.mark.slow
@pytest.mark.parametrize("to", TARGETS)
def test_a_hundred_and_twenty_planted_faults_are_refused(to):
    """Prints, for each model, how many faults were planted and how many were refused."""
    pytest.importorskip("onnxruntime" if to == "onnx" else "torch" if to == "pytorch" else to)
    missed = []
    for name in planted.MODELS:
        model = planted.read(name)
        found = list(itertools.islice(_reached(model), 12))
        passed = [what for what, faulty in found if not _refused(model, to, faulty)]
        print(f"{to}: {name}: {len(found) - len(passed)} of {len(found)} refused")
        missed += [(name, what) for what in passed]
    assert not missed


def test_a_fault_that_small_numbers_alone_reach_is_refused():
    import torch
    from torch import nn

    import dlbridge

    module = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8, eps=1e-5), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        module[0].bias.zero_()
    model = dlbridge.load(module, inputs={"input": "float32[batch,6]"})
    for to in ("pytorch", "onnx"):
        faulty = model.clone()
        node = next(n for n in faulty.graph if n.op_type == "LayerNormalization")
        planted._set(node, "epsilon", 1e-6)
        assert _refused(model, to, faulty), to


def test_a_fault_that_other_integers_than_0_and_1_reach_is_refused():
    import torch
    from torch import nn

    import dlbridge

    class Count(nn.Module):
        def forward(self, x):
            return torch.clamp(x, 0, 5) * 2

    model = dlbridge.load(Count().eval(), inputs={"x": "int64[batch,6]"})
    faulty = model.clone()
    name = next(n for n, v in faulty.graph.initializers.items() if v.const_value.numpy().tolist() == 5)
    faulty.set_weights({name: np.asarray(4, np.int64)})
    assert _refused(model, "onnx", faulty)


def test_inputs_that_the_original_does_not_take_are_not_tried():
    from torch import nn

    import dlbridge

    class Places(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(4, 3)

        def forward(self, mask):
            return self.table(mask.cumsum(-1) * mask)  # a count of what is not 0: with integers beyond 1, no index

    model = dlbridge.load(Places().eval(), inputs={"mask": "int64[batch,3]"})
    for to in ("pytorch", "onnx"):
        assert api._certificate(model, to, model.write(to))["passed"]
