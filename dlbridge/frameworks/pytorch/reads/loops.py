"""``repeat`` and ``scan``: loops for rules of ops that PyTorch computes step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.control import body_of, parameter
from dlbridge.frameworks.pytorch.reading import Op
from dlbridge.frameworks.pytorch.tensors import sizes, with_sizes


def repeat(
    op: Op, times: ir.Value, states: Sequence[ir.Value], step: Callable[..., Sequence[ir.Value]]
) -> list[ir.Value]:
    """The final states of ``states = step(k, *states)`` for k = 0, 1, ... below ``times``.

    Args:
        op: The call that is read.
        times: How often, an int64 of rank 0.
        states: Tensors whose dtypes and sizes stay.
        step: Makes the nodes of one round; ``k`` is an int64 of rank 0. It may read any other tensor.
    """
    counted = [parameter(op._program, ir.DataType.INT64, []), parameter(op._program, ir.DataType.BOOL, [])]
    now = [parameter(op._program, v.dtype, sizes(v)) for v in states]
    body = body_of(op._program, op, "loop", [*counted, *now], lambda: [counted[1], *step(counted[0], *now)])
    return _node(op, "Loop", [times, None, *states], body, [(v.dtype, sizes(v)) for v in states])


def scan(
    op: Op,
    x: ir.Value,
    states: Sequence[ir.Value],
    step: Callable[..., Sequence[ir.Value]],
    backwards: bool = False,
) -> list[ir.Value]:
    """The final states of ``*states, *y = step(*states, x[t])`` along axis 0, and all y, stacked.

    Args:
        op: The call that is read.
        x: What the steps go along.
        states: Tensors whose dtypes and sizes stay.
        step: Makes the nodes of one step. It may read any other tensor.
        backwards: Go from the last to the first; y[t] stays at t.
    """
    now = [parameter(op._program, v.dtype, sizes(v)) for v in states]
    slice_ = parameter(op._program, x.dtype, sizes(x)[1:])
    body = body_of(op._program, op, "scan", [*now, slice_], lambda: step(*now, slice_))
    of = [(v.dtype, sizes(v)) for v in states]
    of += [(y.dtype, [sizes(x)[0], *sizes(y)]) for y in body.outputs[len(states) :]]
    way = {"scan_input_directions": [1], "scan_output_directions": [1]} if backwards else {}
    return _node(op, "Scan", [*states, x], body, of, num_scan_inputs=1, **way)


def _node(
    op: Op, kind: str, inputs: Sequence[ir.Value | None], body: ir.Graph, of: Sequence[tuple[Any, Any]], **numbers: Any
) -> list[ir.Value]:
    """Add the node of a loop, whose outputs have these dtypes and sizes."""
    attributes = [ir.AttrGraph("body", body), *(ir.convenience.convert_attribute(k, v) for k, v in numbers.items())]
    node = ir.Node("", kind, inputs, attributes, num_outputs=len(of))
    for value, (dtype, sizes_) in zip(node.outputs, of, strict=True):
        value.dtype = dtype
        with_sizes(value, sizes_)
    op._program.add(node, op)
    return list(node.outputs)
