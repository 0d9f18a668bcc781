"""``repeat``: the Loop that a rule makes, for what torch computes step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from dlbridge.frameworks.pytorch.control import live
from dlbridge.frameworks.pytorch.reading import Op, sizes, with_sizes


def repeat(
    op: Op, times: ir.Value, states: Sequence[ir.Value], step: Callable[..., Sequence[ir.Value]]
) -> list[ir.Value]:
    """The last states of ``states = step(k, *states)`` for k = 0, 1, ... below ``times``.

    Args:
        op: The call that is read.
        times: How often, an int64 of rank 0.
        states: Tensors whose dtypes and sizes stay.
        step: Makes the nodes of one round; ``k`` is an int64 of rank 0. It may read any other tensor.
    """
    program = op._program

    def parameter(dtype: ir.DataType, of: Sequence[object]) -> ir.Value:
        shape = ir.Shape([s if isinstance(s, int) else None for s in of])
        return with_sizes(ir.Value(name=name(), type=ir.TensorType(dtype), shape=shape), of)

    def name() -> str:
        return f"inner_{next(program.inner)}"

    counted = [parameter(ir.DataType.INT64, []), parameter(ir.DataType.BOOL, [])]
    now = [parameter(v.dtype, sizes(v)) for v in states]  # type: ignore[arg-type]
    with program.body() as nodes:
        results = [op("Identity", counted[1])]
        for value in step(counted[0], *now):
            own = value.producer() in nodes and value not in results
            results.append(value if own else op("Identity", value))
    for value in (v for node in nodes for v in node.outputs if v.name is None):
        value.name = name()  # each graph by itself would name them alike
    body = ir.Graph([*counted, *now], results, nodes=live(nodes, results), name="loop")
    loop = ir.Node("", "Loop", [times, None, *states], [ir.AttrGraph("body", body)], num_outputs=len(states))
    for value, state in zip(loop.outputs, states, strict=True):
        value.dtype = state.dtype
        with_sizes(value, sizes(state))
    program.add(loop, op)
    return list(loop.outputs)
