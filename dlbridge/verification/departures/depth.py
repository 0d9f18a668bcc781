"""The error of each node along the depth of a network, for one set of inputs.

A framework's form is written once more with every value on the way as an output, and runs in its own types: the
rounding of each value against float64 is seen as it grows. Another model is run in float64 as it is, and its values
have no names: what it computes is compared as sorted numbers, in any layout, with the nearest array of that size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from dlbridge import frameworks
from dlbridge.model import Model
from dlbridge.verification.forms import Form
from dlbridge.verification.measure import Arrays, relative_error

#: Node -> the largest error of its values, in the order of the graph.
Depth = dict[str, float]


def along_depth(model: Model, form: Form, arrays: Arrays, right: Arrays) -> Depth:
    """The error of each node of a form; empty where the form shows no values.

    Args:
        model: The model in the neutral form.
        form: What is compared.
        arrays: One set of inputs.
        right: Every value of the graph in float64, for these inputs.
    """
    writer = getattr(form, "as_written", None)
    if writer is not None:
        return _by_node(model, _errors_by_name(all_values(model, writer, arrays), right))
    seen: list[np.ndarray] = []
    if form.exact([arrays], seen) is None:
        return {}
    return _by_node(model, _errors_of_nearest(model, seen, right))


def all_values(model: Model, framework_name: str, arrays: Arrays) -> Arrays:
    """All float values of a model by name, as a framework computes them: the model is written once more with each of
    them as an output."""
    copy = model.clone()
    values = [v for node in copy.graph for v in node.outputs if v.name and v.dtype is not None]
    floats = [v for v in values if v.dtype is not None and v.dtype.is_floating_point()]
    copy.graph.outputs.extend(v for v in floats if not v.is_graph_output())
    framework = frameworks.get(framework_name)
    return framework.run(framework.load(framework.write(copy)), arrays)


def _errors_by_name(found: Arrays, right: Arrays) -> dict[str, float]:
    return {name: _error(np.asarray(array), right[name]) for name, array in found.items() if name in right}


def _error(array: np.ndarray, wanted: np.ndarray) -> float:
    if array.shape != wanted.shape:
        return float("inf")
    return relative_error(array.astype(np.float64), wanted.astype(np.float64))


def _errors_of_nearest(model: Model, seen: Sequence[np.ndarray], right: Arrays) -> dict[str, float]:
    by_size: dict[int, list[np.ndarray]] = {}
    for array in (one for one in seen if one.dtype != bool):
        by_size.setdefault(array.size, []).append(np.sort(array, axis=None))
    found = {}
    for value in (v for node in model.graph for v in node.outputs):
        wanted = right.get(value.name or "")
        if wanted is None or wanted.dtype.kind != "f" or wanted.size < 2:
            continue
        ordered = np.sort(wanted, axis=None)
        others = by_size.get(wanted.size, [])
        if others:
            found[value.name or ""] = min(relative_error(other, ordered) for other in others)
    return found


def _by_node(model: Model, errors: Mapping[str, float]) -> Depth:
    """The largest error among the values of each node."""
    found: Depth = {}
    for node in model.graph:
        own = [errors[v.name or ""] for v in node.outputs if v.name in errors]
        if own:
            found[name_of(node)] = max(own)
    return found


def name_of(node: ir.Node) -> str:
    """What a node is called in ``Depth``."""
    return node.name or node.outputs[0].name or ""
