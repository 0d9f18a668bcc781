"""Faults to plant into models, for showing that a verification can fail, and for finding what a departure comes from.

Each kind is one small function that finds where it is legal and says how it is planted. A fault is a change of the
graph that a writer is given, while what the model was read from stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.ops.evaluator import Evaluator
from dlbridge.ops.keys import op_key
from dlbridge.passes.matching import Match
from dlbridge.verification.faults import (  # noqa: F401  # they register their kinds
    attributes,
    conditional,
    numbers,
    operations,
)
from dlbridge.verification.faults.kind import KINDS, Fault, Kind
from dlbridge.verification.measure import relative_error

__all__ = ["KINDS", "Fault", "Kind", "faults", "faults_of", "reach"]


def faults(model: Model) -> list[Fault]:
    """All faults that can be planted into a model, in an order that mixes kinds and nodes."""
    found = [fault for place, node in enumerate(model.graph.all_nodes()) for fault in faults_of(node, place)]
    order = np.random.default_rng(0).permutation(len(found))
    return [found[index] for index in order]


def faults_of(node: ir.Node, place: int = 0) -> Iterator[Fault]:
    """The faults that can be planted at a node, which is at that place among the nodes of its graph."""
    for kind in KINDS:
        for change in kind.finds(Match(node)):
            yield Fault(kind.name, node.name or node.outputs[0].name or "", op_key(node), place, change)


def reach(model: Model, faulty: Model, cases: Sequence[Mapping[str, np.ndarray]]) -> float:
    """How far a fault moves the outputs on these inputs, in float64, relative to the largest number of each.

    NaN for a graph that cannot be run any more.
    """
    right = Evaluator(model.ir)
    try:
        wrong = Evaluator(faulty.ir)
        pairs = [(right(arrays), wrong(arrays)) for arrays in cases]
    except Exception:  # sizes that do not fit: a writer or the framework refuses it
        return float("nan")
    return max(relative_error(b[name], a[name]) for a, b in pairs for name in a)
