"""``If``, ``Loop`` and ``Scan`` around Keras code: a branch or the body of a loop becomes a subgraph.

What runs is a function of values that makes nodes; the values around it are at hand in it, as the standard has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
from keras import tree

from dlbridge.frameworks.keras.graph.call_site import CallSite

_COUNT: tuple[ir.DataType, list[Any]] = ir.DataType.INT64, []
_FLAG: tuple[ir.DataType, list[Any]] = ir.DataType.BOOL, []


def branch(site: CallSite, condition: ir.Value, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """``If``: the results of one of two functions, nested as these return them."""
    graphs: list[ir.Graph] = []
    results: list[tuple[Any, list[ir.Value]]] = []
    for name, run in (("then", then), ("otherwise", otherwise)):
        with site.build.body(name, []) as graph:
            result = run()
            values = [site.reader.value(v) for v in tree.flatten(result)]
            dtypes = [_dtype(v) for v in (results[0][1] if results else values)]
            site.build.give(graph, list(zip(values, dtypes, strict=True)))
        graphs.append(graph)
        results.append((result, values))
    types = [(a.dtype, _common(site, a, b)) for a, b in zip(results[0][1], results[1][1], strict=True)]
    made = site.build.control("If", [flag(site, condition)], types, then_branch=graphs[0], else_branch=graphs[1])
    return tree.pack_sequence_as(results[0][0], made)


def _common(site: CallSite, a: ir.Value, b: ir.Value) -> list[Any]:
    if site.rank(a) != site.rank(b):
        site.refuse("its branches give tensors of different ranks")
    return [x if x == y else None for x, y in zip(site.shape(a), site.shape(b), strict=True)]


def loop(
    site: CallSite,
    run: Callable[[ir.Value, list[ir.Value]], Sequence[Any]],
    states: list[ir.Value],
    *,
    count: ir.Value | None = None,
    goes_on: Callable[[list[ir.Value]], ir.Value] | None = None,
) -> list[ir.Value]:
    """``Loop``: the states after at most ``count`` rounds; ``goes_on`` decides before each.

    Args:
        site: The call.
        run: Makes the next states of the number of the round, from 0, and the states.
        states: The first states; their dtypes and shapes stay.
        count: An int64 scalar.
        goes_on: Makes a boolean scalar of the states.
    """
    first = None if goes_on is None else flag(site, goes_on(states))
    types = [_type(v) for v in states]
    with site.build.body("loop", [_COUNT, _FLAG, *types]) as graph:
        number, always, *now = graph.inputs
        new = [site.reader.value(v) for v in run(number, now)]
        again = always if goes_on is None else flag(site, goes_on(new))
        dtypes = [ir.DataType.BOOL, *(dtype for dtype, _ in types)]
        site.build.give(graph, list(zip([again, *new], dtypes, strict=True)))
    if first is None:
        first = site.build.value(True)
    return site.build.control("Loop", [count, first, *states], types, body=graph)


def scan(
    site: CallSite,
    run: Callable[[list[ir.Value], list[ir.Value]], tuple[Sequence[Any], Sequence[Any]]],
    states: list[ir.Value],
    sequences: list[ir.Value],
    *,
    reverse: bool = False,
) -> tuple[list[ir.Value], list[ir.Value]]:
    """``Scan``: (final states, results of all steps, stacked along axis 0).

    Args:
        site: The call.
        run: Makes (the next states, what the step gives) of the states and of the step's slices of the sequences.
        states: The first states; their dtypes and shapes stay.
        sequences: At least one; their first axis is that of the steps.
        reverse: Whether the steps go from the last to the first.
    """
    types = [_type(v) for v in states]
    with site.build.body("scan", [*types, *((_dtype(v), site.shape(v)[1:]) for v in sequences)]) as graph:
        new, given = run(list(graph.inputs[: len(states)]), list(graph.inputs[len(states) :]))
        new, given = ([site.reader.value(v) for v in part] for part in (new, given))
        dtypes = [*(dtype for dtype, _ in types), *(_dtype(v) for v in given)]
        site.build.give(graph, list(zip([*new, *given], dtypes, strict=True)))
    stacked = [(v.dtype, [site.shape(sequences[0])[0], *site.shape(v)]) for v in given]
    way = {"scan_input_directions": [1] * len(sequences), "scan_output_directions": [1] * len(given)} if reverse else {}
    way = {name: numbers for name, numbers in way.items() if numbers}
    made = site.build.control(
        "Scan", [*states, *sequences], [*types, *stacked], body=graph, num_scan_inputs=len(sequences), **way
    )
    return made[: len(states)], made[len(states) :]


def flag(site: CallSite, value: Any) -> ir.Value:
    """Reshape and cast a condition to a boolean scalar."""
    value = site.cast(site.tensor(value), ir.DataType.BOOL)
    return site.op("Reshape", value, []) if site.rank(value) else value


def _dtype(value: ir.Value) -> ir.DataType:
    assert value.dtype is not None
    return value.dtype


def _type(value: ir.Value) -> tuple[ir.DataType, list[Any]]:
    assert value.dtype is not None and value.shape is not None
    return value.dtype, list(value.shape)
