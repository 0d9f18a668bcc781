"""Infers the types of one node's outputs while a description is expanded; sizes of weights follow from the input."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from dlbridge.description import checks, signature, values
from dlbridge.description.schema import ValueType
from dlbridge.errors import ShapeError
from dlbridge.ops import extension
from dlbridge.ops.keys import is_op
from dlbridge.ops.traits import IR_OPSET, IR_VERSION
from dlbridge.passes import shapes
from dlbridge.passes.integers import Integers

#: Constants up to this many elements are shown to inference with their numbers.
_SHOWN_ELEMENTS = 256


def infer_node(node: ir.Node) -> None:
    """Set dtype and shape of a node's outputs as far as they follow from its inputs.

    Raises:
        ShapeError: When the inputs do not fit the op; it names their dtypes and shapes.
    """
    if node.domain == extension.DOMAIN:
        checks.check_dtypes(node, _signature(node))
        _infer_extension(node)
        return
    schema = signature.schema(node.domain, node.op_type)
    present = [v for v in node.inputs if v is not None]
    if schema is None or any(v.type is None for v in present) or _has_graph(node):
        return
    checks.check_dtypes(node, _signature(node))
    types = {v.name: ir.serde.serialize_value(v).type for v in present}
    data = {v.name: _shown(v) for v in present if v.const_value is not None}
    try:
        inferred = onnx.shape_inference.infer_node_outputs(
            schema,
            ir.serde.serialize_node(node),
            types,
            input_data={k: v for k, v in data.items() if v is not None},
            opset_imports=[onnx.helper.make_opsetid("", IR_OPSET)],
            ir_version=IR_VERSION,
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError) as error:
        raise ShapeError(f"{node.op_type} cannot take ({_signature(node)}): {_reason(error)}") from None
    for value in node.outputs:
        if value.name in inferred:
            _set(value, inferred[value.name])
    if any(value.shape is None for value in node.outputs):
        shapes.infer_node(node, Integers())  # the standard gives some ops a function body alone
    checks.check_sizes(node, _signature(node))


def _set(value: ir.Value, proto: onnx.TypeProto) -> None:
    value.type = ir.serde.deserialize_type_proto_for_type(proto)
    value.shape = ir.serde.deserialize_type_proto_for_shape(proto)


def _infer_extension(node: ir.Node) -> None:
    """Infer a node of the domain ``dlbridge``; its function body is checked with the whole graph."""
    x = node.inputs[0].shape  # type: ignore[union-attr]
    if is_op(node, "Linear"):
        w = node.inputs[1].shape  # type: ignore[union-attr]
        if x is not None and w is not None and isinstance(x[-1], int) and x[-1] != w[1]:
            raise ShapeError(f"Linear cannot take ({_signature(node)}): {x[-1]} is not {w[1]}")
    elif x is not None:
        extension.shared_axes(node)
    shapes.infer_node(node, Integers())


def _has_graph(node: ir.Node) -> bool:
    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())


def _shown(value: ir.Value) -> onnx.TensorProto | None:
    tensor = value.const_value
    if tensor is None or tensor.size > _SHOWN_ELEMENTS or isinstance(tensor, ir.LazyTensor):
        return None
    return ir.serde.serialize_tensor(tensor)


def _signature(node: ir.Node) -> str:
    return ", ".join(f"{v.name}: {text(v)}" for v in node.inputs if v is not None)


def text(value: ir.Value) -> str:
    """``float32[batch, 16]``."""
    shape = "[?]" if value.shape is None else f"[{', '.join(str(s) for s in values.shape_to(value.shape))}]"
    return f"{values.type_to(value.type) if value.type is not None else '?'}{shape}"


def _reason(error: Exception) -> str:
    lines = str(error).rpartition("Error] ")[2].strip().splitlines()
    return lines[0] if lines else type(error).__name__


def set_type(value: ir.Value, of: ValueType) -> ir.Value:
    """Set the dtype, the shape and the metadata that a description states."""
    value.type = values.type_from(of.dtype)
    value.shape = ir.Shape(of.shape) if of.shape is not None else None
    value.metadata_props.update(of.metadata)
    return value


def state_type(value: ir.Value, of: ValueType) -> None:
    """Set the type that a description states, after checking it against what was inferred.

    Raises:
        ShapeError: When the two differ.
    """
    stated = ir.Shape(of.shape) if of.shape is not None else None
    if value.shape is not None and stated is not None and not _agree(value.shape, stated):
        raise ShapeError(f"'{value.name}' has the shape {value.shape}, not {stated}")
    if value.type is not None and values.type_to(value.type) != of.dtype:
        raise ShapeError(f"'{value.name}' has the dtype {values.type_to(value.type)}, not {of.dtype}")
    set_type(value, of)


def _agree(a: ir.Shape, b: ir.Shape) -> bool:
    pairs = zip(a, b, strict=False)
    return len(a) == len(b) and all(x == y for x, y in pairs if isinstance(x, int) and isinstance(y, int))
