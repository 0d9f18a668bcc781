"""Precision: the same model with another float type."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

import onnx_ir as ir

from dlbridge.errors import DlbridgeError
from dlbridge.ops.keys import op_key
from dlbridge.passes.rewriter import Rewriter, Site

if TYPE_CHECKING:
    from dlbridge.model import Model

Precision = Literal["float64", "float32", "float16", "bfloat16"]

TYPES = {
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
FLOAT32_SLOTS = {"Resize": (2,), "NonMaxSuppression": (0, 1, 3, 4)}


def convert(model: Model, dtype: Precision) -> Model:
    """A clone in which every float32 becomes ``dtype`` (:func:`set_precision`); ``model`` is left as it is."""
    copy = model.clone()
    set_precision(copy.ir, dtype)
    return copy


def set_precision(model: ir.Model, dtype: Precision) -> bool:
    """Convert every float32 to ``dtype``, in place; float types of another width, integers and names stay.

    Initializers are converted when they are read, so the weights are not copied here.

    Args:
        model: The model.
        dtype: What float32 becomes.

    Returns:
        Whether it is another type.

    Raises:
        DlbridgeError: When ``dtype`` is not a float type that a model can have.
    """
    if dtype not in TYPES:
        raise DlbridgeError(f"no precision '{dtype}'", hint=f"known: {', '.join(TYPES)}")
    target = TYPES[dtype]
    if target == ir.DataType.FLOAT:
        return False
    rewriter = Rewriter(model.graph)
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in (*graph.inputs, *graph.initializers.values()):
            if not _only_float32(value):
                _convert_value(value, target)
        for node in list(graph):
            site = Site(node, rewriter)
            convert_node(site, target)
            for slot in FLOAT32_SLOTS.get(site.key, ()):
                _restore_float32(site, slot)
    return True


def _only_float32(value: ir.Value) -> bool:
    """Whether a value is an initializer that is read nowhere but in slots that stay float32."""
    uses = value.uses()
    return (
        value.is_initializer()
        and bool(uses)
        and all(use.idx in FLOAT32_SLOTS.get(op_key(use.node), ()) for use in uses)
    )


def convert_node(site: Site, target: ir.DataType, was: ir.DataType = ir.DataType.FLOAT) -> None:
    """Convert the attributes and outputs of a node to another float type; its inputs stay.

    Args:
        site: The node.
        target: The type.
        was: The type that is converted.
    """
    node = site.node
    for name, attribute in list(node.attributes.items()):
        node.attributes[name] = _convert_attribute(attribute, target, was)
    if was == ir.DataType.FLOAT:
        _state_defaults(site, target)
    for value in node.outputs:
        _convert_value(value, target, was)


def _state_defaults(site: Site, target: ir.DataType) -> None:
    """State the type where the standard has float32 if a node states none."""
    node = site.node
    _state_dtype(site, _DEFAULT_FLOAT.get(site.key), target)
    if target == ir.DataType.DOUBLE:
        _state_dtype(site, _INNER_DTYPE.get(site.key), target)
    if site.is_op("ConstantOfShape") and not site.has("value"):
        _state_tensor(site, ir.tensor([0.0], dtype=ir.DataType.FLOAT), target)
    if site.is_op("Constant") and (site.has("value_float") or site.has("value_floats")):
        ((name, attribute),) = list(node.attributes.items())
        del node.attributes[name]
        _state_tensor(site, ir.tensor(attribute.value, dtype=ir.DataType.FLOAT), target)


def _state_dtype(site: Site, name: str | None, target: ir.DataType) -> None:
    """State an attribute that is float32 where it is left out; that of inner arithmetic is widened where it is not."""
    if name is not None and (not site.has(name) or name == "stash_type"):
        site.set(**{name: int(target)})


def _state_tensor(site: Site, tensor: ir.TensorProtocol, target: ir.DataType) -> None:
    site.node.attributes["value"] = ir.AttrTensor("value", convert_tensor(tensor, target))


def _restore_float32(site: Site, slot: int) -> None:
    """Cast an input back to the float32 that its slot asks for."""
    value = site.input(slot)
    if value is None or (value.is_initializer() and _only_float32(value)):
        return
    cast = site.op("Cast", f"float32_{slot}", [value], to=int(ir.DataType.FLOAT))
    cast.type, cast.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
    site.set_input(slot, cast)


def _convert_value(value: ir.Value, target: ir.DataType, was: ir.DataType = ir.DataType.FLOAT) -> None:
    if value.const_value is not None:
        value.const_value = convert_tensor(value.const_value, target, was)
    value.type = _convert_type(value.type, target, was)


def _convert_type(kind: ir.TypeProtocol | None, target: ir.DataType, was: ir.DataType) -> ir.TypeProtocol | None:
    if isinstance(kind, (ir.SequenceType, ir.OptionalType)):
        element = _convert_type(kind.elem_type, target, was)
        return kind if element is None else type(kind)(element)
    if isinstance(kind, ir.TensorType) and kind.dtype == was:
        return ir.TensorType(target)
    return kind


def convert_tensor(
    tensor: ir.TensorProtocol, target: ir.DataType, was: ir.DataType = ir.DataType.FLOAT
) -> ir.TensorProtocol:
    """The tensor in another float type, converted when it is read; one of a type other than ``was`` as it is."""
    if tensor.dtype != was or target == was:
        return tensor
    return ir.LazyTensor(
        functools.partial(_cast, tensor, target), dtype=target, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name
    )


def _cast(tensor: ir.TensorProtocol, target: ir.DataType) -> ir.Tensor:
    return ir.Tensor(tensor.numpy().astype(target.numpy()), dtype=target, name=tensor.name)


def _convert_attribute(attribute: ir.Attr, target: ir.DataType, was: ir.DataType) -> ir.Attr:
    if attribute.is_ref():
        return attribute
    if attribute.name in _DTYPE_ATTRIBUTES and attribute.value == was:
        return ir.AttrInt64(attribute.name, int(target))
    if attribute.type == ir.AttributeType.TENSOR:
        return ir.AttrTensor(attribute.name, convert_tensor(attribute.as_tensor(), target, was))
    return attribute
