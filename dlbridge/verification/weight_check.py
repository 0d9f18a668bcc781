"""Checks that what was written of a model holds the model's weights, number by number.

Inputs reach few rows of a large table, and a loop's weights only where it is entered. That all others are right is seen
by looking at them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.source.weights import Weight
from dlbridge.verification.departures.departure import Departure
from dlbridge.verification.forms import Form
from dlbridge.verification.measure import is_float
from dlbridge.verification.report import Check, Report

#: What checks call it, where others name the strategies that fill inputs.
NAME = "the weights themselves"
#: How many numbers are compared at once.
_PIECE = 2**20


@dataclass(frozen=True)
class Unlike:
    """A weight that has other numbers than the model's.

    Attributes:
        initializer: The model's name of it.
        text: What is found, as a sentence.
    """

    initializer: str
    text: str


def check_weights(model: Model, form: Form, report: Report) -> list[Check]:
    """Return a failed check if weights of a form are not the model's. The first such weight goes into the report as the
    place where the form departs, unless its outputs have shown a node."""
    unlike: list[Unlike] = getattr(form, "unlike_weights", list)()
    if not unlike:
        return []
    first = unlike[0]
    readers = [use.node for use in model.graph.initializers[first.initializer].uses()]
    node = readers[0] if readers else None
    found = Departure(first.text)
    if node is not None:
        found.node, found.op = node.name, op_key(node)
    shown = report.departures.get(form.name)
    text = first.text + _more(model, unlike)
    if shown is None or shown.node is None:
        report.departures[form.name] = found
    elif any(shown.node == node.name for node in _readers(model, unlike)):
        shown.cause = f"{shown.cause}; {text}" if shown.cause else text
    return [Check(form.name, {}, {}, 0.0, False, text, inputs=NAME)]


def _readers(model: Model, unlike: Sequence[Unlike]) -> Iterator[ir.Node]:
    """The nodes that read one of these weights."""
    for each in unlike:
        yield from (use.node for use in model.graph.initializers[each.initializer].uses())


def _more(model: Model, unlike: Sequence[Unlike]) -> str:
    """Describe the other weights that differ. Where all kernels and tables do, the model was initialised again; biases
    and scales may still be equal, as they start from constants."""
    others = len(unlike) - 1
    trained = {name for name, value in model.graph.initializers.items() if traits.is_trained(value)}
    drawn = {name for name in trained if len(model.graph.initializers[name].shape or ()) > 1}
    if others and drawn <= {each.initializer for each in unlike}:
        return "; and so do all kernels and tables, as in a model that is made anew: give both the same weights"
    return f"; and {others} more weights" if others else ""


def unlike_weights(model: Model, source: Any, arrays: Mapping[str, np.ndarray]) -> Iterator[Unlike]:
    """The weights that are missing, or whose numbers are not the model's.

    Weights that the writer has reshaped or renamed are not compared: a fault in those shows in the outputs.

    Args:
        model: The model.
        source: What was written of it.
        arrays: The weights that are in use now, by the keys of the source; each is looked up once.
    """
    keys: Mapping[str, Weight] = getattr(source, "weights", None) or {name: Weight.of(name) for name in arrays}
    for key, weight in keys.items():
        names = [view.initializer for view in weight.views]
        if not names or not all(_is_kept(model, source.model, name) for name in names):
            continue
        if key not in arrays:
            yield Unlike(names[0], f"what was written has no weight '{key}', which is the model's '{names[0]}'")
            continue
        wanted, found = weight.read(model.weights), arrays[key]  # one at a time: each may be a copy
        if wanted.shape != found.shape:
            continue
        count, place = _differences(wanted, found)
        if count:
            text = f"the weight '{key}' is not the model's '{names[0]}': {count} of {found.size} numbers differ"
            yield Unlike(names[0], f"{text}, the first at {place}")


def _is_kept(model: Model, written: Model, name: str) -> bool:
    """Whether a name means the same weight before and after the passes of a writer."""
    before, after = model.graph.initializers.get(name), written.graph.initializers.get(name)
    if before is None or after is None or before.const_value is None or traits.kind(before) == "constant":
        return False
    return before.shape == after.shape and before.dtype == after.dtype


def _differences(wanted: np.ndarray, found: np.ndarray) -> tuple[int, list[int]]:
    """How many numbers differ, and the place of the first one; they are compared a few rows at a time."""
    if not found.ndim:
        return int(_differ(wanted, found).sum()), []
    count, place = 0, list[int]()
    rows = max(1, _PIECE * len(found) // max(found.size, 1))
    for start in range(0, len(found), rows):
        differ = _differ(wanted[start : start + rows], found[start : start + rows])
        if not count and differ.any():
            place = [int(i) for i in np.unravel_index(int(np.argmax(differ)), differ.shape)]
            place[0] += start
        count += int(differ.sum())
    return count, place


def _differ(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Which numbers differ, in the type that they are held in."""
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = wanted.astype(found.dtype, copy=False)
    differ: np.ndarray = wanted != found
    if differ.any() and is_float(found.dtype):
        differ &= ~(np.isnan(wanted) & np.isnan(found))
    return differ
