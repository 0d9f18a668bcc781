"""Tensors filled with one number, as operands: the number does, where another operand has the shape of the result."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.elementwise import BROADCASTING_OPS
from dlbridge.passes.matching import constant, match, producer
from dlbridge.passes.rewriter import Rewriter
from dlbridge.passes.sizes import shape_of


def take_number(node: ir.Node, rewriter: Rewriter) -> None:
    """Let an elementwise op read the number that an operand is filled with, which broadcasting spreads again.

    One that is made in another module stays: it is what a module is called with (a state that begins with zeros), and
    that is no number in the module's further calls.
    """
    found = match(node, *BROADCASTING_OPS)
    shape = None if found is None else shape_of(found.output)
    if found is None or shape is None or None in shape:
        return
    for slot, value in enumerate(found.operands):
        others = [other for other in found.operands if other is not value]
        number = _filled_with(value, node) if any(shape_of(other) == shape for other in others) else None
        if number is not None:
            node.replace_input_with(slot, rewriter.constant(f"{value.name}.number", number.numpy(), number.dtype))


def _filled_with(value: ir.Value, reader: ir.Node) -> ir.TensorProtocol | None:
    """The number (as a tensor without axes) that all elements of a value are; None where that is not so plain."""
    made = producer(value, "Expand", "ConstantOfShape")
    if made is None or traits.scope(made.node) != traits.scope(reader):
        return None
    if made.key == "ConstantOfShape":
        given = made.attribute("value")
        tensor = ir.tensor(np.zeros(1, np.float32)) if given is None else given
    else:
        tensor = constant(made.input(0))
    if tensor is None or tensor.size != 1:
        return None
    return ir.Tensor(tensor.numpy().reshape(()), dtype=tensor.dtype)
