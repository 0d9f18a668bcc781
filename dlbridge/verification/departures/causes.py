"""Causes of a departure, found by trying them: a change of the departing node that gives the form's own numbers.

Each kind of fault of ``dlbridge.verification.faults`` is tried on the node alone, with the inputs that it has. What
reproduces what the form has computed is believed, and nothing else. Where no change does, the numbers themselves are
looked at: the same in another order, or off by a constant in each channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.ops.evaluator import Evaluator
from dlbridge.passes.matching import stored, subgraphs
from dlbridge.verification.faults import Fault, faults_of
from dlbridge.verification.measure import Arrays

#: A node with an output of more elements is not tried: it is run once for each change.
_LARGEST = 1 << 20
#: Equal numbers in float64, relative to the largest.
_EQUAL = 1e-6


class Looks(Protocol):
    """The arrays that a form has computed."""

    def has(self, wanted: np.ndarray) -> bool:
        """Whether one of them has these numbers."""
        ...


def alone(nodes: Sequence[ir.Node], values: Arrays, last: ir.Node) -> tuple[Model, Arrays, Arrays] | None:
    """Cut nodes out as a model of their own, with its inputs and its outputs; None if a node has subgraphs.

    Weights and constants stay initializers; what other nodes compute becomes inputs of the model.

    Args:
        nodes: The nodes, in order.
        values: The values of the graph, by name.
        last: The node whose outputs are those of the model.
    """
    if any(subgraphs(attribute) for node in nodes for attribute in node.attributes.values()):
        return None
    made: dict[ir.Value, ir.Value] = {}
    inputs, weights, copies = [], [], []
    for node in nodes:
        for value in dict.fromkeys(v for v in node.inputs if v is not None and v not in made):
            made[value] = copy = _copied(value)
            tensor = stored(value)
            if tensor is not None:
                copy.const_value = tensor
                weights.append(copy)
            elif value.name in values and value.dtype is not None:
                copy.shape = ir.Shape(values[value.name].shape)
                inputs.append(copy)
            else:
                return None
        made.update({value: _copied(value) for value in node.outputs})
        copies.append(
            ir.Node(
                node.domain,
                node.op_type,
                [None if v is None else made[v] for v in node.inputs],
                list(node.attributes.values()),
                overload=node.overload,
                outputs=[made[v] for v in node.outputs],
                name=node.name,
                metadata_props=dict(node.metadata_props),
            )
        )
    outputs = [made[v] for v in last.outputs if v.name in values]
    if not outputs:
        return None
    model = Model.build("node", inputs, outputs, copies, weights)
    arrays = {v.name or "": values[v.name or ""] for v in inputs}
    return model, arrays, {v.name or "": values[v.name or ""] for v in outputs}


def _copied(value: ir.Value) -> ir.Value:
    copy = ir.Value(name=value.name, type=value.type, shape=value.shape)
    copy.metadata_props.update(value.metadata_props)
    return copy


def likely_cause(
    model: Model,
    inputs: Arrays,
    right: Arrays,
    shown: Looks,
    found: np.ndarray | None,
    *,
    at: str | None = None,
    goes_on: Callable[[Fault], bool] = lambda fault: True,
) -> str:
    """What a node computes instead of what it should; empty if that is not found.

    Args:
        model: The node alone.
        inputs: Its inputs.
        right: The outputs that it should have.
        shown: What the form has computed.
        found: What it has computed in the place of the first output, where that is known.
        at: The name of the node that is changed, where the model has several.
        goes_on: Whether the form goes on with what a fault gives: it may have these numbers on the way to others, as a
            product before its bias is added.
    """
    wanted = next(iter(right.values()))
    if wanted.size > _LARGEST:
        return ""
    nodes = list(model.graph)
    place = next(i for i, node in enumerate(nodes) if at is None or node.name == at)
    for fault in faults_of(nodes[place], place):
        output = _run(fault.planted(model), inputs)
        if output is None or _same(output, wanted) or not _tells(output):
            continue
        if shown.has(output) and goes_on(fault):
            return fault.kind
    if found is None or found.dtype == bool:
        return ""
    return next((name for name, holds in _PATTERNS if holds(found, wanted)), "")


def read_on(node: ir.Node, values: Arrays, shown: Looks, returned: Looks | None) -> Callable[[Fault], bool]:
    """Whether the form goes on with what a fault of a node gives: one of the nodes that read it, computed of that, is
    among what the form has computed; or the form returns it.

    Args:
        node: The node.
        values: The values of the graph, by name.
        shown: What the form has computed.
        returned: What it returns; None where that is not known.
    """
    readers = dict.fromkeys(use.node for output in node.outputs for use in output.uses())
    cut = (alone([node, reader], values, reader) for reader in readers)
    pairs = [pair for pair in cut if pair is not None]
    is_output = any(output.is_graph_output() for output in node.outputs)

    def goes_on(fault: Fault) -> bool:
        places = [(shown, model, inputs) for model, inputs, _ in pairs]
        if is_output and returned is not None:
            single = alone([node], values, node)
            places += [] if single is None else [(returned, single[0], single[1])]
        given = [(looks, _run(fault.planted(model), inputs)) for looks, model, inputs in places]
        telling = [(looks, output) for looks, output in given if output is not None and _tells(output)]
        return not telling or any(looks.has(output) for looks, output in telling)

    return goes_on


def _run(model: Model, inputs: Arrays) -> np.ndarray | None:
    try:
        return next(iter(Evaluator(model.ir)(inputs).values()))
    except Exception:  # a change with which the node cannot be run at all is none of a form that runs
        return None


def _tells(array: np.ndarray) -> bool:
    return array.size > 1 and array.dtype.kind == "f" and bool((array != array.flat[0]).any())


def _same(array: np.ndarray, wanted: np.ndarray) -> bool:
    if array.shape != wanted.shape:
        return False
    scale = np.abs(np.nan_to_num(wanted)).max(initial=0.0)
    return bool(np.allclose(array, wanted, rtol=0.0, atol=_EQUAL * scale, equal_nan=True))


# --- patterns of the numbers ------------------------------------------------------------------------------------------


def _is_layout(found: np.ndarray, wanted: np.ndarray) -> bool:
    return _same(np.sort(found, axis=None), np.sort(wanted, axis=None))


def _is_offset(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether each index of some axis is off by a constant."""
    return _is_constant_along_others(found - wanted, np.abs(wanted).max(initial=0.0))


def _is_factor(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether each index of some axis is off by a factor, in all of its numbers."""
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    bound = _EQUAL * max(np.abs(found).max(initial=0.0), np.abs(wanted).max(initial=0.0))
    for others in _axes(wanted):
        squares = (wanted * wanted).sum(axis=others, keepdims=True)
        products = (found * wanted).sum(axis=others, keepdims=True)
        factor = np.divide(products, squares, out=np.zeros_like(products), where=squares > 0)
        if np.allclose(found, factor * wanted, rtol=0.0, atol=bound):
            return True
    return False


def _axes(array: np.ndarray) -> Iterator[tuple[int, ...]]:
    """All axes but one, for each axis whose indices have more than one number."""
    for axis in range(array.ndim):
        if array.ndim > 1 and array.size > array.shape[axis]:
            yield tuple(a for a in range(array.ndim) if a != axis)


def _is_constant_along_others(array: np.ndarray, scale: float) -> bool:
    for others in _axes(array):
        known = ~np.isnan(array)
        spread = np.where(known, array, -np.inf).max(axis=others) - np.where(known, array, np.inf).min(axis=others)
        if (spread <= _EQUAL * scale).all() and known.any():
            return True
    return False


_PATTERNS: tuple[tuple[str, Callable[[np.ndarray, np.ndarray], bool]], ...] = (
    ("the same numbers in another order: a layout", _is_layout),
    ("each channel is off by a constant: a wrong bias", _is_offset),
    ("each channel is off by a factor: a wrong scale", _is_factor),
)
