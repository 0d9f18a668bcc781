"""Control flow of ``keras.ops``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from keras import tree

from dlbridge.frameworks.keras.graph.bodies import branch, loop, scan
from dlbridge.frameworks.keras.graph.call_site import CallSite, operation


def _values(site: CallSite, nest: Any) -> list[ir.Value]:
    return [site.tensor(v) for v in tree.flatten(nest)]


@operation("Cond")
def cond(site: CallSite, pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    site.reader.evaluate_captured(true_fn)
    site.reader.evaluate_captured(false_fn)
    return branch(
        site, site.tensor(pred), lambda: site.reader.run_inner(true_fn), lambda: site.reader.run_inner(false_fn)
    )


@operation("Switch")
def switch(site: CallSite, index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """``switch``: Keras clamps the index to the number of branches."""
    given, which = [site.tensor(v) for v in operands], site.tensor(index)
    for function in branches:
        site.reader.evaluate_captured(function)

    def chosen(first: int) -> Any:
        here = branches[first]
        if first == len(branches) - 1:
            return site.reader.run_inner(here, *given)
        is_here = site.op("LessOrEqual", which, first)
        return branch(site, is_here, lambda: site.reader.run_inner(here, *given), lambda: chosen(first + 1))

    return chosen(0)


@operation("WhileLoop")
def while_loop(site: CallSite, loop_vars: Any) -> Any:
    kind = site.source
    site.reader.evaluate_captured(kind.cond)
    site.reader.evaluate_captured(kind.body)
    single = not tree.is_nested(loop_vars)
    states = _values(site, loop_vars)

    def packed(values: list[ir.Value]) -> tuple[Any, ...]:
        found = tree.pack_sequence_as(loop_vars, values)
        return tuple(found) if isinstance(loop_vars, (list, tuple)) else (found,)

    limit = kind.maximum_iterations
    last = loop(
        site,
        lambda _, now: tree.flatten(site.reader.run_inner(kind.body, *packed(now))),
        states,
        count=None if limit is None else site.cast(site.tensor(limit), ir.DataType.INT64),
        goes_on=lambda now: site.reader.run_inner(kind.cond, *packed(now)),
    )
    return last[0] if single else tree.pack_sequence_as(loop_vars, last)


@operation("ForiLoop")
def fori_loop(site: CallSite, init_val: Any) -> Any:
    kind = site.source
    site.reader.evaluate_captured(kind.body_fun)
    lower, upper = (site.cast(site.tensor(v), ir.DataType.INT64) for v in (kind.lower, kind.upper))

    def run(number: ir.Value, now: list[ir.Value]) -> Sequence[Any]:
        place = site.cast(number + lower, ir.DataType.INT32)
        return tree.flatten(site.reader.run_inner(kind.body_fun, place, tree.pack_sequence_as(init_val, now)))

    last = loop(site, run, _values(site, init_val), count=upper - lower)
    return tree.pack_sequence_as(init_val, last)


@operation("Scan")
def scan_over(site: CallSite, f: Callable[..., Any], init: Any, xs: Any = None) -> Any:
    kind = site.source
    site.reader.evaluate_captured(f)
    if xs is None and kind.length is None:
        site.refuse("it has neither a sequence nor a length")
    sequences = _values(site, np.zeros(int(kind.length), np.int8)) if xs is None else _values(site, xs)
    if xs is not None and kind.length is not None:
        sequences = [site.slice(v, 0, 0, int(kind.length)) for v in sequences]
    shape: list[Any] = []

    def run(now: list[ir.Value], step: list[ir.Value]) -> tuple[Sequence[Any], Sequence[Any]]:
        x = None if xs is None else tree.pack_sequence_as(xs, step)
        carry, y = site.reader.run_inner(f, tree.pack_sequence_as(init, now), x)
        shape.append(y)
        return tree.flatten(carry), tree.flatten(y)

    last, stacked = scan(site, run, _values(site, init), sequences, reverse=bool(kind.reverse))
    return tree.pack_sequence_as(init, last), tree.pack_sequence_as(shape[0], stacked)


@operation("Map")
def map_over(site: CallSite, f: Callable[..., Any], xs: Any) -> Any:
    return _each(site, f, xs)


@operation("VectorizedMap")
def vectorized_map(site: CallSite, elements: Any) -> Any:
    return _each(site, site.source.function, elements)


def _each(site: CallSite, function: Callable[..., Any], xs: Any) -> Any:
    site.reader.evaluate_captured(function)
    shape: list[Any] = []

    def run(_: list[ir.Value], step: list[ir.Value]) -> tuple[Sequence[Any], Sequence[Any]]:
        shape.append(site.reader.run_inner(function, tree.pack_sequence_as(xs, step)))
        return [], tree.flatten(shape[0])

    _, stacked = scan(site, run, [], _values(site, xs))
    return tree.pack_sequence_as(shape[0], stacked)
