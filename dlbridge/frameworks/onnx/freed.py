"""Tries a file whose inputs have other sizes than it says: a graph may hold the old sizes as numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from dlbridge.errors import FileError, SignatureError
from dlbridge.frameworks.onnx import runner
from dlbridge.ops.keys import is_op, op_key

#: How far results of the same rows may differ where they are computed with others.
_RTOL, _ATOL = 1e-3, 1e-4
#: Elements of inputs of stated sizes that are tried: a graph that gets more is not run before it must be.
_MOST_ELEMENTS = 1 << 26
_Arrays = dict[str, np.ndarray]


def check_stated(model: ir.Model, before: Mapping[str, Sequence[Any]], where: str) -> None:
    """Run a graph whose inputs have other numbers as sizes than the file says.

    Args:
        model: The graph, with its inputs as they are now.
        before: Input -> its sizes in the file.
        where: What errors call the model.

    Raises:
        SignatureError: When it does not run; the node is named.
    """
    inputs = [v for v in model.graph.inputs if not v.is_initializer()]
    stated = [v for v in inputs if _has_other_numbers(v, before)]
    elements = [size for v in inputs for size in v.shape or () if isinstance(size, int)]
    if not stated or math.prod(elements) > _MOST_ELEMENTS:
        return
    what = f"the graph does not run with {', '.join(f'{v.name}{v.shape}' for v in stated)}"
    said = ", ".join(f"{v.name}{ir.Shape(before[str(v.name)])}" for v in stated)
    hint = f"the file says {said}; numbers in the graph may stem from these sizes"
    try:
        live = runner.in_memory(_named(model), optimized=False)
    except FileError as error:
        node = re.search(r"Node \(([^()]*)\) Op \((\w+)\) \[ShapeInferenceError\] (.*)", str(error))
        if node is None:  # no kernel, say: that is not the sizes' fault
            return
        raise SignatureError(f"{what} ({node[3]})", where=f"{where}, {node[2]} node '{node[1]}'", hint=hint) from error
    _run(live, _inputs(inputs, {}), where, what, hint)


def _has_other_numbers(value: ir.Value, before: Mapping[str, Sequence[Any]]) -> bool:
    pairs = zip(before.get(str(value.name), ()), value.shape or (), strict=False)
    return any(isinstance(new, int) and new != old for old, new in pairs)


def check(model: ir.Model, freed: Sequence[str], before: Mapping[str, Sequence[Any]], where: str) -> None:
    """Run a graph with other sizes than the file has.

    Where the first size of inputs was made free, two rows must give what each gives alone.

    Args:
        model: The graph, with its inputs as they are now.
        freed: The names of the sizes that are free now.
        before: Input -> its sizes in the file.
        where: What errors call the model.

    Raises:
        SignatureError: When it does not run, or mixes rows; the node is named.
    """
    model = _named(model)
    live = runner.in_memory(model, optimized=False)
    inputs = [v for v in model.graph.inputs if not v.is_initializer()]
    own = _own_sizes(inputs, before)
    rows = [name for name in freed if any(_first(v) == name for v in inputs)]
    for name in freed:
        if name not in rows:
            for factor in (1, 2):
                _run_free(live, _inputs(inputs, {**own, name: factor * own[name]}), name, where)
    for name in rows:
        both = _inputs(inputs, {**own, name: 2})
        batched = [str(v.name) for v in inputs if _first(v) == name]
        alone = [{k: a[i : i + 1] if k in batched else a for k, a in both.items()} for i in range(2)]
        together = _run_free(live, both, name, where)
        singles = [_run_free(live, each, name, where) for each in alone]
        mixed = [key for key in together if not _is_by_rows(together[key], *(each[key] for each in singles))]
        if mixed:
            place = _culprit(model, both, alone[0], mixed[0])
            raise SignatureError(
                f"the size '{name}' cannot be free: with two rows, {mixed[0]!r} is not what it is for each alone",
                where=f"{where}, {place}" if place else where,
                hint="the graph holds the size as a number there; export the model again with that size dynamic",
            )


def _named(model: ir.Model) -> ir.Model:
    """A copy in which every node has a name, by which onnxruntime's errors call it."""
    copy = model.clone()
    for node in copy.graph.all_nodes():
        node.name = node.name or next((str(v.name) for v in node.outputs if v.name), op_key(node))
    return copy


def _own_sizes(inputs: Sequence[ir.Value], before: Mapping[str, Sequence[Any]]) -> dict[str, int]:
    """Name of a size -> what it is in the file, or 2 where it was free there."""
    sizes: dict[str, int] = {}
    for value in inputs:
        for axis, size in enumerate(value.shape or ()):
            if isinstance(size, int) or size.value is None:
                continue
            old = before.get(str(value.name), ())
            number = old[axis] if axis < len(old) and isinstance(old[axis], int) else None
            sizes[size.value] = number if number is not None else sizes.get(size.value, 2)
    return sizes


def _first(value: ir.Value) -> str | None:
    first = value.shape[0] if value.shape is not None and len(value.shape) else None
    return None if first is None or isinstance(first, int) else first.value


def _inputs(inputs: Sequence[ir.Value], sizes: Mapping[str, int]) -> _Arrays:
    """Random inputs; integers, which may be indices, are 0 and 1."""
    random = np.random.default_rng(0)
    found: _Arrays = {}
    for value in inputs:
        shape = [size if isinstance(size, int) else sizes.get(size.value or "", 2) for size in value.shape or ()]
        assert value.dtype is not None
        is_float = value.dtype.is_floating_point()
        array = random.standard_normal(shape) if is_float else random.integers(0, 2, shape)
        found[str(value.name)] = array.astype(value.dtype.numpy())
    return found


def _run_free(live: runner.Live, arrays: _Arrays, name: str, where: str) -> _Arrays:
    what = f"the size '{name}' cannot be free: the graph does not run with another one"
    hint = "the graph holds the size as a number there; export the model again with that size dynamic"
    return _run(live, arrays, where, what, hint)


def _run(live: runner.Live, arrays: _Arrays, where: str, what: str, hint: str) -> _Arrays:
    try:
        return runner.run(live, arrays)
    except Exception as error:  # onnxruntime's exceptions have no base class of their own
        text = " ".join(str(error).split())
        node = re.search(r"running (\w+) node\. Name:\s*'([^']*)'", text)
        place = f"{node[1]} node '{node[2]}'" if node else where
        shapes = re.search(r"Input shape:.*", text) or re.search(r"(?<=Status Message: )(?!/).*", text)
        reason = f" ({shapes[0]})" if shapes else ""
        raise SignatureError(f"{what}{reason}", where=f"{where}, {place}" if node else where, hint=hint) from error


def _is_by_rows(both: np.ndarray, one: np.ndarray, other: np.ndarray) -> bool:
    """Whether a result for two rows is that of each row, side by side, or does not depend on rows at all."""
    if not np.issubdtype(both.dtype, np.floating):
        return True  # indices may count over all rows
    if both.shape == one.shape == other.shape and _is_close(both, one) and _is_close(both, other):
        return True
    for axis in range(both.ndim):
        grows = one.ndim == both.ndim and both.shape[axis] == one.shape[axis] + other.shape[axis]
        is_rows = axis == 0 or both.shape[axis] == 2
        others_same = one.shape[:axis] + one.shape[axis + 1 :] == both.shape[:axis] + both.shape[axis + 1 :]
        if grows and is_rows and others_same and one.shape == other.shape:
            return _is_close(both, np.concatenate([one, other], axis))
    return False


def _is_close(a: np.ndarray, b: np.ndarray) -> bool:
    scale = float(np.max(np.abs(np.nan_to_num(b)), initial=0.0))
    return bool(np.allclose(a, b, rtol=_RTOL, atol=_ATOL * max(scale, 1e-6), equal_nan=True))


def _culprit(model: ir.Model, both: _Arrays, alone: _Arrays, output: str) -> str:
    """The first node that moves the rows from the first axis elsewhere, else the one that makes an output."""
    shown = model.clone()
    ShapeInferencePass()(shown)
    graph = shown.graph
    values = [v for node in graph for v in node.outputs if v.name and v.dtype is not None]
    producers = {v.name: v.producer() for v in values}
    named = {v.name for v in graph.outputs}
    graph.outputs.extend(v for v in values if v.name not in named)
    live = runner.in_memory(shown)
    wide, narrow = runner.run(live, both), runner.run(live, alone)
    for node in graph:
        if not is_op(node, "Reshape") or node.inputs[0] is None or node.outputs[0].name not in wide:
            continue
        source, result = str(node.inputs[0].name), str(node.outputs[0].name)
        if source not in wide and source not in both:
            continue
        before = _grown(wide.get(source, both.get(source)), narrow.get(source, alone.get(source)))
        after = _grown(wide[result], narrow[result])
        if before == [0] and after != [0]:
            return f"Reshape node '{node.name}'"
    made = producers.get(output)
    return f"{op_key(made)} node '{made.name}'" if made is not None else ""


def _grown(wide: Any, narrow: Any) -> list[int]:
    return [axis for axis, (a, b) in enumerate(zip(wide.shape, narrow.shape, strict=False)) if a != b]
