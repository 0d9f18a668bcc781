"""Constants of a graph: the tensors that are some, and new ones of sizes and axes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.ops import traits


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of a value that is a constant (never that of a parameter or buffer), else None."""
    if value is None or value.const_value is None or value.is_graph_input() or traits.kind(value) != "constant":
        return None
    return value.const_value if value.is_initializer() else None


def new_constant(graph: ir.Graph, name: str, numbers: list[int]) -> ir.Value:
    """A new initializer of these int64 numbers; ``_`` is added to a name that is taken."""
    while name in graph.initializers:
        name += "_"
    value = ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([len(numbers)]))
    value.const_value = ir.tensor(np.asarray(numbers, np.int64), name=name)
    graph.register_initializer(value)
    return value
