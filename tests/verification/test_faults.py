"""A proof can fail: faults that are planted into what is written are refused, and what is right is not."""

import collections
import itertools

import numpy as np
import pytest

from dlbridge import api
from dlbridge.errors import DlbridgeError, VerificationError
from dlbridge.verification import judge as judges
from dlbridge.verification import verify
from dlbridge.verification.faults import KINDS, Fault, faults, reach
from dlbridge.verification.faults.kind import set_attribute
from dlbridge.verification.inputs.battery import Battery
from tests.helpers import planted

pytestmark = pytest.mark.pytorch

TARGETS = ("pytorch", "keras", "onnx")
#: A smaller change is of the size of float32's own rounding.
REACHED = 3e-5
#: Faults of one model and target that ``make faults`` plants.
FAULTS = 24


def _is_refused(model, to, faulty):
    """Whether what is written of the faulty model is refused as the model."""
    try:
        written = faulty.write(to)
    except DlbridgeError:
        return True  # a graph that is none
    try:
        api._certified(model, to, written)
    except VerificationError as error:
        assert str(error).strip().splitlines()[1:], "a failure says why"
        return True
    return False


def _reached(model):
    """The faults that change what the model gives for the inputs that it is verified with: (fault, faulty model)."""
    sets = Battery(model, {}, None, 0, full=False).cases(judges.find(model, None, []))
    cases = [case.arrays for case in sets]
    pairs = ((fault, fault.planted(model)) for fault in faults(model))
    return ((fault, faulty) for fault, faulty in pairs if reach(model, faulty, cases) > REACHED)


def test_there_are_kinds_enough_and_each_has_a_name_of_its_own():
    assert len(KINDS) >= 60
    assert len({kind.name for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("name", planted.MODELS)
def test_planted_faults_are_refused_and_the_right_model_is_not(name):
    model = planted.read(name)
    targets = TARGETS if name == "images" else ("pytorch", "onnx")
    for to, (fault, faulty) in zip(targets, _reached(model), strict=False):
        if to != "pytorch":
            assert api._certified(model, to, model.write(to))[1]["passed"], to
        assert _is_refused(model, to, faulty), (str(fault), to)


@pytest.mark.slow
@pytest.mark.parametrize("to", TARGETS)
def test_reached_faults_are_caught_and_traced(to):
    """Prints how many faults were planted, caught and traced, by model, and the kinds that were missed."""
    pytest.importorskip("onnxruntime" if to == "onnx" else "torch" if to == "pytorch" else to)
    count: collections.Counter = collections.Counter()
    missed, astray = [], []
    for name in planted.MODELS:
        model = planted.read(name)
        for fault, faulty in itertools.islice(_reached(model), FAULTS):
            outcome, where = _outcome(model, to, faulty)
            count[outcome] += 1
            if outcome == "missed":
                missed.append(f"{name}: {fault}")
            elif outcome == "caught" and not _is_traced(model, fault, where):
                astray.append(f"{name}: {fault}: traced to {where}")
    traced = count["caught"] - len(astray)
    print(f"\n{to}: {dict(count)}, traced {traced} of {count['caught']}", *missed, *astray, sep="\n  ")
    planted_ones = count["caught"] + count["missed"]
    assert count["caught"] >= 0.98 * planted_ones
    assert traced >= 0.9 * count["caught"]


def _outcome(model, to, faulty):
    """What becomes of a fault: ("caught", the node that is named), ("refused" by the writer, None), or "missed"."""
    try:
        written = faulty.write(to)
        report = verify(model, routes=[to], written={to: written}, battery="quick", thorough=False)
    except DlbridgeError:
        return "refused", None
    if report.passed:
        return "missed", None
    if report.failures or to not in report.departures:
        return "refused", None
    return "caught", report.departures[to].node


def _is_traced(model, fault: Fault, where):
    """Whether a fault is traced to its node, to one that reads its result (where the result shows nowhere else), or to
    another one with the same weight."""
    faulty = list(model.graph.all_nodes())[fault.place]
    shared = [value for value in faulty.inputs if value is not None and value.is_initializer()]
    near = {use.node.name for value in (*faulty.outputs, *shared) for use in value.uses()}
    return where in {fault.node, *near}


def _is_found_with(model, change, op, to):
    """Whether one change at the only node of an op is refused."""
    place, node = next((i, n) for i, n in enumerate(model.graph.all_nodes()) if n.op_type == op)
    return _is_refused(model, to, Fault("", node.name, op, place, change).planted(model))


def test_a_fault_that_small_numbers_alone_reach_is_refused():
    import torch
    from torch import nn

    import dlbridge

    module = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8, eps=1e-5), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        module[0].bias.zero_()
    model = dlbridge.load(module, inputs={"input": "float32[batch,6]"})
    for to in ("pytorch", "onnx"):
        assert _is_found_with(model, set_attribute("epsilon", 1e-6), "LayerNormalization", to), to


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
    assert _is_refused(model, "onnx", faulty)


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
        assert api._certified(model, to, model.write(to))[1]["passed"]


@pytest.mark.parametrize("to", ["pytorch", "keras", "onnx"])
def test_a_departure_has_its_node_its_line_and_its_cause(to):
    pytest.importorskip("onnxruntime" if to == "onnx" else "torch" if to == "pytorch" else to)
    model = planted.read("patches")
    wanted = "an epsilon a hundred times larger"
    fault = next(f for f in faults(model) if (f.kind, f.node) == (wanted, "norm1"))
    written = fault.planted(model).write(to)
    report = verify(model, routes=[to], written={to: written}, battery="quick", thorough=False)
    departure = report.departures[to]
    assert (departure.node, departure.op, departure.cause) == ("norm1", "LayerNormalization", wanted)
    if to == "pytorch":
        assert "self.norm1(" in departure.line[1]
    elif to == "keras":
        assert "norm" in departure.line[1]


def test_the_departing_node_is_written_alone(tmp_path):
    import subprocess
    import sys

    from dlbridge.verification.departures import reproduction

    model = planted.read("patches")
    fault = next(f for f in faults(model) if (f.kind, f.node) == ("an epsilon a hundred times larger", "norm1"))
    written = fault.planted(model).write("pytorch")
    report = verify(model, routes=["pytorch"], written={"pytorch": written}, battery="quick", thorough=False)
    folder = reproduction.write(report.departures["pytorch"], "pytorch", tmp_path / "alone")
    assert {p.name for p in folder.iterdir()} == {"node.onnx", "node.npz", "node.py", "node_pytorch.py"}
    done = subprocess.run([sys.executable, folder / "node.py"], capture_output=True, text=True, check=True)
    off = [float(line.rpartition(" ")[2]) for line in done.stdout.splitlines()[1:]]
    assert off[0] < 1e-6 < 1e-5 < off[1]
