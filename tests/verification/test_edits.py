"""Faults planted by hand into printed files are caught and traced, through the door that a user takes.

``make faults`` plants them all, and prints how many were caught and traced, by target; here is a part of each kind.
"""

import collections

import pytest

import dlbridge
from tests.helpers import edited_models
from tests.helpers.edit import edits, of_graph

pytest.importorskip("torch")
pytestmark = pytest.mark.pytorch

#: Edits of the default suite: those whose mending took a mechanism of its own.
CORE = (
    "pictures: bfloat16 inside",
    "pictures: every tenth call",
    "decoder: keys and values out in turn",
    "decoder: the output's type",
    "table: the remainder of 6",
    "table: numbers through float16",
    "clicks: hashing in int32",
    "clicks: hashing in float32",
    "clicks: an axis more",
    "boxes: unsorted",
    "boxes: when a score is above 0.9",
    "pictures: when the batch is 5",
    "table: when a category is 41",
    "clicks: hashing in float64",
)


class Planted:
    """Models of which something is written, into a folder whose file is edited.

    Args:
        to: The framework that they are written for.
        folder: Where they are written to.
    """

    def __init__(self, to, folder):
        self._to, self._folder, self._models = to, folder, {}

    def report(self, edit):
        """(the model, the report of its edited file)."""
        is_graph = self._to == "onnx"
        target = self._folder / (f"{edit.model}.onnx" if is_graph else edit.model)
        if edit.model not in self._models:
            model = self._models[edit.model] = edited_models.read(edit.model)
            model.write(self._to).save(target)
        file = target if is_graph else target / "model.py"
        right = file.read_bytes()
        if is_graph:
            of_graph(edit, file)
        else:
            file.write_text(edit.of(right.decode()), encoding="utf-8")
        try:
            return self._models[edit.model], dlbridge.verify(self._models[edit.model], target)
        finally:
            file.write_bytes(right)


def is_traced(model, edit, report):
    """Whether a report names a node where the fault is, or one that reads its result."""
    near = {use.node.name for node in model.graph if node.name in edit.nodes for v in node.outputs for use in v.uses()}
    return any(departure.node in edit.nodes | near for departure in report.departures.values())


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return Planted("pytorch", tmp_path_factory.mktemp("edited"))


@pytest.mark.parametrize("name", CORE)
def test_an_edit_of_a_printed_file_is_caught_and_traced(name, planted):
    edit = next(edit for edit in edits("pytorch") if f"{edit.model}: {edit.what}" == name)
    model, report = planted.report(edit)
    assert not report.passed
    assert is_traced(model, edit, report), {r: str(d) for r, d in report.departures.items()}


def test_a_narrow_type_is_the_cause_that_is_named(planted):
    edit = next(edit for edit in edits("pytorch") if edit.what == "numbers through float16")
    (departure,) = planted.report(edit)[1].departures.values()
    assert departure.cause == "numbers are held in float16"
    assert "self.fc3(x.half()" in departure.line[1]


@pytest.mark.slow
@pytest.mark.parametrize("to", ["pytorch", "keras", "onnx"])
def test_edits_are_caught_and_traced(to, tmp_path):
    """Prints how many of the edits were caught and traced, and the others."""
    pytest.importorskip({"pytorch": "torch", "onnx": "onnxruntime"}.get(to, to))
    planted, count, others = Planted(to, tmp_path), collections.Counter(), []
    for edit in edits(to):
        model, report = planted.report(edit)
        outcome = "missed" if report.passed else "traced" if is_traced(model, edit, report) else "caught"
        count[outcome] += 1
        if outcome != "traced":
            where = next((d.node for d in report.departures.values()), None)
            others.append(f"{edit.model}: {edit.what}: {outcome}, {where}")
    print(
        f"\n{to}: {count['traced'] + count['caught']} of {count.total()} caught, {count['traced']} traced",
        *others,
        sep="\n  ",
    )
    caught = count.total() - count["missed"]
    assert caught >= 0.98 * count.total()
    assert count["traced"] >= 0.9 * caught
