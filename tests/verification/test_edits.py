"""Faults planted by hand into printed files are caught and traced, through the door that a user takes.

``make faults`` plants them all, and prints how many were caught and traced, by target; here is a part of each kind.
"""

import collections

import pytest

import dlbridge
from tests.helpers import edited_models, unseen_models
from tests.helpers.edit import edits, planted

pytest.importorskip("torch")
pytestmark = pytest.mark.pytorch

#: Edits of the default suite: of those whose mending took a mechanism of its own, the ones that take few seconds.
CORE = (
    "decoder: the output's type",
    "table: the remainder of 6",
    "table: numbers through float16",
    "clicks: hashing in int32",
    "clicks: hashing in float32",
    "clicks: an axis more",
    "boxes: unsorted",
    "pictures: when the batch is 5",
    "table: when a category is 41",
    "clicks: hashing in float64",
)

#: Edits of ``unseen_models`` in the default suite: (list, edit).
CORE_UNSEEN = (
    ("harder", "catalog: an item that is spelled as a power"),
    ("harder", "catalog: three users with seven items"),
    ("harder", "catalog: the same user and item"),
    ("harder", "accounts: two kinds together"),
    ("harder", "accounts: amounts of a mean in a window"),
)


class Planted:
    """Models of which something is written, into a folder whose files are edited.

    Args:
        to: The framework that they are written for.
        folder: Where they are written to.
        read: Returns a model by its name.
    """

    def __init__(self, to, folder, read=edited_models.read):
        self._to, self._folder, self._read, self._models = to, folder, read, {}

    def report(self, edit):
        """(the model, the report of its edited file)."""
        target = self._folder / (f"{edit.model}.onnx" if self._to == "onnx" else edit.model)
        if edit.model not in self._models:
            model = self._models[edit.model] = self._read(edit.model)
            model.write(self._to).save(target)
        with planted(edit, target):
            return self._models[edit.model], dlbridge.verify(self._models[edit.model], target)


def is_traced(model, edit, report):
    """Whether a report names a node where the fault is, or one that reads its result."""
    near = {use.node.name for node in model.graph if node.name in edit.nodes for v in node.outputs for use in v.uses()}
    return any(departure.node in edit.nodes | near for departure in report.departures.values())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return Planted("pytorch", tmp_path_factory.mktemp("edited"))


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    return Planted("pytorch", tmp_path_factory.mktemp("unseen"), unseen_models.read)


@pytest.mark.parametrize("name", CORE)
def test_an_edit_of_a_printed_file_is_caught_and_traced(name, written):
    edit = next(edit for edit in edits("pytorch") if f"{edit.model}: {edit.what}" == name)
    model, report = written.report(edit)
    assert not report.passed
    assert is_traced(model, edit, report), {r: str(d) for r, d in report.departures.items()}


@pytest.mark.parametrize(("folder", "name"), CORE_UNSEEN)
def test_what_seldom_shows_is_caught(folder, name, unseen):
    edit = next(edit for edit in edits("pytorch", folder) if f"{edit.model}: {edit.what}" == name)
    model, report = unseen.report(edit)
    assert not report.passed
    assert is_traced(model, edit, report), {r: str(d) for r, d in report.departures.items()}


def test_a_narrow_type_is_the_cause_that_is_named(written):
    edit = next(edit for edit in edits("pytorch") if edit.what == "numbers through float16")
    (departure,) = written.report(edit)[1].departures.values()
    assert departure.cause == "numbers are held in float16"
    assert "self.fc3(x.half()" in departure.line[1]


@pytest.mark.slow
@pytest.mark.parametrize("to", ["pytorch", "keras", "onnx"])
@pytest.mark.parametrize(
    ("folders", "read"),
    [([""], edited_models.read), (["unseen", "harder"], unseen_models.read)],
    ids=["first", "unseen"],
)
def test_edits_are_caught_and_traced(folders, read, to, tmp_path):
    """Prints how many of the edits were caught and traced, and the others."""
    pytest.importorskip({"pytorch": "torch", "onnx": "onnxruntime"}.get(to, to))
    written, count, others = Planted(to, tmp_path, read), collections.Counter(), []
    for edit in (edit for folder in folders for edit in edits(to, folder)):
        model, report = written.report(edit)
        outcome = "missed" if report.passed else "traced" if is_traced(model, edit, report) else "caught"
        count[outcome] += 1
        if outcome != "traced":
            where = next((d.node for d in report.departures.values()), None)
            others.append(f"{edit.model}: {edit.what}: {outcome}, {where}")
    caught = count.total() - count["missed"]
    print(f"\n{to}: {caught} of {count.total()} caught, {count['traced']} at their node", *others, sep="\n  ")
    assert caught >= 0.98 * count.total()
    assert count["traced"] >= 0.9 * caught
