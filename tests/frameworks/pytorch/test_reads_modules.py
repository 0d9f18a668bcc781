"""PyTorch's own samples of its modules (ModuleInfo), in eval and in training mode: each does what PyTorch does, or is
refused.

In training mode outputs, gradients and statistics are compared, with the ratio of every dropout 0. What is refused is
listed, so that a rule that is lost, or one more than is said, shows. ``make modules`` runs every sample;
``DLBRIDGE_UPDATE_GOLDEN=1`` with it writes the list anew.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.helpers import module_samples
from tests.helpers.paths import GOLDEN

pytestmark = [pytest.mark.pytorch, pytest.mark.keras]

LEDGER = GOLDEN / "modules_refused.txt"
TARGETS = {"eval": ("pytorch", "keras", "onnx"), "training": ("pytorch", "keras")}
#: The share of the samples that must be right.
SHARES = {"eval": 0.98, "training": 0.95}
#: Of the default suite: module, mode, place of the sample among the module's.
QUICK = [
    ("BatchNorm1d", "training", 2),
    ("BatchNorm2d", "training", 4),
    ("InstanceNorm1d", "training", 1),
    ("LayerNorm", "training", 2),
    ("Linear", "training", 1),
    ("LSTM", "training", 16),
    ("GRU", "training", 4),
    ("RNNCell", "training", 1),
    ("Embedding", "training", 1),
    ("PReLU", "training", 0),
    ("BatchNorm3d", "eval", 4),
    ("InstanceNorm2d", "eval", 3),
    ("LazyConv1d", "eval", 0),
    ("CosineEmbeddingLoss", "eval", 1),
]


def listed() -> dict[tuple[str, str, str], tuple[int, int]]:
    """(module, mode, target) -> how many samples are refused, and of how many."""
    found = {}
    for line in LEDGER.read_text().splitlines():
        module, mode, target, refused, _, count = line.split()[:6]
        found[module, mode, target] = int(refused), int(count.rstrip(":"))
    return found


def is_right(outcome: str) -> bool:
    return outcome == "right"


def is_refused(outcome: str) -> bool:
    return outcome == "random" or outcome.startswith("refused: ")


@pytest.mark.parametrize(("module", "mode", "place"), QUICK)
def test_a_sample(module, mode, place):
    sample = list(module_samples.samples(module, mode == "training"))[place]
    found = module_samples.outcome(sample, mode == "training", TARGETS[mode])
    assert found == dict.fromkeys(TARGETS[mode], "right")


def outcomes(module: str, mode: str) -> list[dict[str, str]]:
    """What comes of each sample of a module, for each target."""
    samples = module_samples.samples(module, mode == "training")
    found = [module_samples.outcome(sample, mode == "training", TARGETS[mode]) for sample in samples]
    return [o for o in found if o]


def note(module: str, mode: str, found: list[dict[str, str]]) -> list[str]:
    """The lines of the list for a module: how many samples a target refuses, and why."""
    lines = []
    for target in sorted(TARGETS[mode]):
        refused = [o[target] for o in found if is_refused(o[target])]
        if refused:
            why, _ = Counter(" ".join(o.removeprefix("refused: ").split()) for o in refused).most_common(1)[0]
            lines.append(
                f"{module} {mode} {target} {len(refused)} of {len(found)}: {why.partition(': the model')[0][:90]}"
            )
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("mode", TARGETS)
@pytest.mark.parametrize("module", module_samples.DATABASE)
def test_module(module, mode):
    found = outcomes(module, mode)
    wrong = {o for each in found for o in each.values() if not is_right(o) and not is_refused(o)}
    assert not wrong
    lines = note(module, mode, found)
    before = [line for line in LEDGER.read_text().splitlines() if line.split()[:2] == [module, mode]]
    if os.environ.get("DLBRIDGE_UPDATE_GOLDEN"):
        kept = [line for line in LEDGER.read_text().splitlines() if line not in before]
        LEDGER.write_text("".join(f"{line}\n" for line in sorted(kept + lines)))
        before = lines
    assert [line.partition(":")[0] for line in lines] == [line.partition(":")[0] for line in sorted(before)]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "target"), [(mode, target) for mode in TARGETS for target in TARGETS[mode]])
def test_most_samples_are_right(mode, target):
    total = sum(len(list(module_samples.samples(module, mode == "training"))) for module in module_samples.DATABASE)
    refused = sum(count for (_, m, t), (count, _) in listed().items() if (m, t) == (mode, target))
    assert 1 - refused / total >= SHARES[mode], f"{refused} of {total} are refused"
