"""Precision: the same model with another float type."""

from __future__ import annotations

import functools
from typing import Literal

import onnx_ir as ir

from dlbridge.errors import DlbridgeError
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.keys import is_op, op_key

Precision = Literal["float64", "float32", "float16", "bfloat16"]

_TYPES = {
    "float64": ir.DataType.DOUBLE,
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
}
#: Int attributes that name the dtype of a result.
_DTYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_datatype"})
#: op type -> such an attribute that is FLOAT when it is left out.
_DEFAULT_FLOAT = {
    "RandomNormal": "dtype",
    "RandomUniform": "dtype",
    "BlackmanWindow": "output_datatype",
    "HammingWindow": "output_datatype",
    "HannWindow": "output_datatype",
    "MelWeightMatrix": "output_datatype",
}
#: op type -> the attribute with the dtype of its inner arithmetic (FLOAT when left out), which float64 must widen.
#: LayerNormalization and RMSNormalization have it too, but both onnxruntime and the reference evaluator compute them in
#: the input's type and the latter refuses any other value, so theirs stays.
_INNER_DTYPE = {"GroupNormalization": "stash_type", "Attention": "softmax_precision"}
#: op type -> slots that the standard has as float32 alone.
_FLOAT32_SLOTS = {"Resize": (2,), "NonMaxSuppression": (0, 1, 3, 4)}


def convert(model: Model, dtype: Precision) -> Model:
    """A clone in which every float32 becomes ``dtype``; float types of another width, integers and names stay.

    Initializers are converted when they are read, so the weights are not copied here.

    Args:
        model: Left as it is.
        dtype: What float32 becomes.

    Raises:
        DlbridgeError: When ``dtype`` is not a float type that a model can have.
    """
    if dtype not in _TYPES:
        raise DlbridgeError(f"no precision '{dtype}'", hint=f"known: {', '.join(_TYPES)}")
    target = _TYPES[dtype]
    copy = model.clone()
    if target == ir.DataType.FLOAT:
        return copy
    for graph in _graphs(copy.graph):
        for value in (*graph.inputs, *graph.initializers.values()):
            if not _only_float32(value):
                _convert_value(value, target)
        for node in list(graph):
            _convert_node(node, target)
    return copy


def _graphs(graph: ir.Graph) -> list[ir.Graph]:
    return [graph, *graph.subgraphs()]


def _only_float32(value: ir.Value) -> bool:
    """Whether a value is an initializer that is read nowhere but in slots that stay float32."""
    uses = value.uses()
    return (
        value.is_initializer()
        and bool(uses)
        and all(use.idx in _FLOAT32_SLOTS.get(op_key(use.node), ()) for use in uses)
    )


def _convert_node(node: ir.Node, target: ir.DataType) -> None:
    for name, attribute in list(node.attributes.items()):
        node.attributes[name] = _convert_attribute(attribute, target)
    for table in (_DEFAULT_FLOAT, _INNER_DTYPE if target == ir.DataType.DOUBLE else {}):
        name = table.get(op_key(node))
        if name is not None and (name not in node.attributes or name == "stash_type"):
            node.attributes[name] = ir.AttrInt64(name, int(target))
    if is_op(node, "ConstantOfShape") and "value" not in node.attributes:
        zero = ir.tensor([0.0], dtype=ir.DataType.FLOAT)
        node.attributes["value"] = ir.AttrTensor("value", _convert_tensor(zero, target))
    if is_op(node, "Constant") and not {"value_float", "value_floats"}.isdisjoint(node.attributes):
        (name,) = node.attributes
        numbers = ir.tensor(node.attributes.pop(name).value, dtype=ir.DataType.FLOAT)
        node.attributes["value"] = ir.AttrTensor("value", _convert_tensor(numbers, target))
    for slot in _FLOAT32_SLOTS.get(op_key(node), ()):
        _restore_float32(node, slot)
    for value in node.outputs:
        _convert_value(value, target)


def _restore_float32(node: ir.Node, slot: int) -> None:
    """Cast an input back to the float32 that its slot asks for."""
    value = node.inputs[slot] if slot < len(node.inputs) else None
    if value is None or (value.is_initializer() and _only_float32(value)):
        return
    to = ir.AttrInt64("to", int(ir.DataType.FLOAT))
    cast = ir.Node("", "Cast", [value], [to], name=f"{node.name}_float32_{slot}")
    cast.outputs[0].name = f"{node.name}_float32_{slot}"
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), value.shape
    cast.metadata_props[traits.ANONYMOUS] = "true"
    node.graph.insert_before(node, cast)
    node.replace_input_with(slot, cast.outputs[0])


def _convert_value(value: ir.Value, target: ir.DataType) -> None:
    if value.const_value is not None:
        value.const_value = _convert_tensor(value.const_value, target)
    value.type = _convert_type(value.type, target)


def _convert_type(kind: ir.TypeProtocol | None, target: ir.DataType) -> ir.TypeProtocol | None:
    if isinstance(kind, (ir.SequenceType, ir.OptionalType)):
        return type(kind)(_convert_type(kind.elem_type, target))
    if isinstance(kind, ir.TensorType) and kind.dtype == ir.DataType.FLOAT:
        return ir.TensorType(target)
    return kind


def _convert_tensor(tensor: ir.TensorProtocol, target: ir.DataType) -> ir.TensorProtocol:
    if tensor.dtype != ir.DataType.FLOAT or target == ir.DataType.FLOAT:
        return tensor
    return ir.LazyTensor(
        functools.partial(_cast, tensor, target), dtype=target, shape=ir.Shape(tensor.shape), name=tensor.name
    )


def _cast(tensor: ir.TensorProtocol, target: ir.DataType) -> ir.Tensor:
    return ir.Tensor(tensor.numpy().astype(target.numpy()), dtype=target, name=tensor.name)


def _convert_attribute(attribute: ir.Attr, target: ir.DataType) -> ir.Attr:
    if attribute.is_ref():
        return attribute
    if attribute.name in _DTYPE_ATTRIBUTES and attribute.value == ir.DataType.FLOAT:
        return ir.AttrInt64(attribute.name, int(target))
    if attribute.type == ir.AttributeType.TENSOR:
        return ir.AttrTensor(attribute.name, _convert_tensor(attribute.as_tensor(), target))
    return attribute
