"""Holds integers of less than a byte in bytes, for frameworks that have no type for them."""

from __future__ import annotations

import functools

import onnx_ir as ir

from dlbridge.ops.keys import is_op
from dlbridge.passes.rewriter import Rewriter, Site
from dlbridge.passes.standard import graph_pass

#: Type -> the type of a byte that holds it.
_BYTES = {
    ir.DataType.INT2: ir.DataType.INT8,
    ir.DataType.INT4: ir.DataType.INT8,
    ir.DataType.UINT2: ir.DataType.UINT8,
    ir.DataType.UINT4: ir.DataType.UINT8,
}
#: Ops that give elements of their first input as they are.
_MOVING = ("Identity", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Gather", "Slice")


def widen_small_integers(graph: ir.Graph) -> bool:
    """Let quantised numbers of 2 and 4 bits be in bytes, in place: the same numbers, cut to the same range.

    Where something else than a quantisation makes or reads one, all stay as they are.

    Returns:
        Whether there were any.
    """
    nodes = list(graph.all_nodes())
    values = [v for n in nodes for v in (*n.inputs, *n.outputs) if v is not None and v.dtype in _BYTES]
    small = list(dict.fromkeys(values))
    if not small or not all(map(_is_quantised, small)):
        return False
    narrow = {value: value.dtype for value in small if value.dtype is not None}
    for value in small:
        _widen(value)
    rewriter = Rewriter(graph)
    for node in nodes:
        if is_op(node, "QuantizeLinear") and node.outputs[0] in narrow:
            _cut(Site(node, rewriter), narrow[node.outputs[0]])
    return True


def _is_quantised(value: ir.Value) -> bool:
    maker = value.producer()
    is_made = value.is_initializer() if maker is None else is_op(maker, "QuantizeLinear", *_MOVING)
    reads = [is_op(use.node, "QuantizeLinear", "DequantizeLinear", "Cast", *_MOVING) for use in value.uses()]
    return is_made and all(reads) and not value.is_graph_input() and not value.is_graph_output()


def _widen(value: ir.Value) -> None:
    assert value.dtype is not None
    wide = _BYTES[value.dtype]
    value.type = ir.TensorType(wide)
    tensor = value.const_value
    if tensor is not None:
        read = functools.partial(_in_bytes, tensor, wide)
        value.const_value = ir.LazyTensor(read, dtype=wide, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name)


def _in_bytes(tensor: ir.TensorProtocol, wide: ir.DataType) -> ir.Tensor:
    return ir.Tensor(tensor.numpy().astype(wide.numpy()), dtype=wide)


def _cut(site: Site, narrow: ir.DataType) -> None:
    """Let a quantisation give numbers of the range of a narrower type."""
    wide = _BYTES[narrow]
    if site.has("output_dtype"):
        site.set(output_dtype=int(wide))
    low = -(2 ** (narrow.bitwidth - 1)) if wide == ir.DataType.INT8 else 0
    limits = ("low", low), ("high", low + 2**narrow.bitwidth - 1)
    quantised, shape = site.output, site.output.shape
    site.then("Clip", "cut", [site.constant(what, number, wide) for what, number in limits])
    quantised.shape = shape


WIDEN_SMALL_INTEGERS = graph_pass(widen_small_integers, "Let integers of less than a byte be in bytes.")
