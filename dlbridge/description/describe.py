"""Model -> canonical description, in which everything is explicit."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.description import signature, values
from dlbridge.errors import DescriptionError
from dlbridge.model import Model
from dlbridge.ops import extension, traits
from dlbridge.ops.keys import op_key

#: Constants up to this many elements are written into the description; larger ones, and weights, into the weights file.
INLINE_ELEMENTS = 64


def describe(model: Model) -> dict[str, Any]:
    """The canonical description of a model, as plain data that JSON can hold.

    The numbers of weights are not in it, except where an initialiser makes them from the seed.

    Raises:
        DescriptionError: When the model has functions of its own, or an attribute that a description cannot hold.
    """
    own = [f for f in model.ir.functions.values() if f.domain != extension.DOMAIN]
    if own:
        raise DescriptionError(
            f"the model has a function of its own: {own[0].domain}.{own[0].name}", hint="inline functions first"
        )
    graph = _graph(model.graph, inline_all=False)
    metadata = graph.pop("metadata", {})
    metadata.pop(traits.BLOCKS, None)
    data: dict[str, Any] = {"dlbridge": 1, "name": model.name}
    if (seed := metadata.pop(traits.SEED, None)) is not None:
        data["seed"] = int(seed)
    data.update({k: v for k, v in graph.items() if k != "name"})
    opsets = {d: v for d, v in model.graph.opset_imports.items() if d not in ("", extension.DOMAIN)}
    optional = {
        "metadata": metadata,
        "classes": traits.blocks(model.graph),
        "opsets": opsets,
        "model_metadata": dict(model.ir.metadata_props),
    }
    data.update({key: value for key, value in optional.items() if value})
    if model.training is not None:
        data["training"] = model.training.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return data


def is_inline(value: ir.Value) -> bool:
    """Whether the numbers of an initializer are written into the description."""
    tensor = value.const_value
    if tensor is None:
        return False
    small = traits.kind(value) == "constant" and tensor.size <= INLINE_ELEMENTS
    return small or tensor.dtype == ir.DataType.STRING


def _graph(graph: ir.Graph, inline_all: bool = True) -> dict[str, Any]:
    parts = {
        "name": graph.name or "",
        "inputs": {_name(v): _type(v) for v in graph.inputs if not v.is_initializer()},
        "nodes": [_node(node) for node in graph],
        "outputs": [_name(v) for v in graph.outputs],
        "initializers": {name: _initializer(v, inline_all) for name, v in graph.initializers.items()},
        "values": {
            v.name: _type(v) for node in graph for v in node.outputs if v.name and (v.type is not None or v.shape)
        },
        "metadata": dict(graph.metadata_props),
    }
    return {key: value for key, value in parts.items() if value or key in ("inputs", "nodes", "outputs")}


def _name(value: ir.Value) -> str:
    return value.name or ""


def _type(value: ir.Value) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if value.type is not None:
        data["dtype"] = values.type_to(value.type)
    if value.shape is not None:
        data["shape"] = values.shape_to(value.shape)
    if value.metadata_props:
        data["metadata"] = dict(value.metadata_props)
    return data


def _node(node: ir.Node) -> dict[str, Any]:
    of = signature.schema(node.domain, node.op_type)
    implied_domain = extension.DOMAIN if op_key(node) in extension.EXTENSION_OPS else ""
    attributes = {
        name: values.attribute_to(attribute, signature.attribute_type(of, name), _graph)
        for name, attribute in node.attributes.items()
    }
    optional = {
        "name": node.name,
        "op": node.op_type,
        "domain": node.domain if node.domain != implied_domain else "",
        "overload": node.overload if node.domain != extension.DOMAIN else "",
        "inputs": [v.name if v is not None else None for v in node.inputs],
        "outputs": [v.name or None for v in node.outputs],
        "attributes": attributes,
        "metadata": dict(node.metadata_props),
        "doc": node.doc_string,
    }
    return {key: value for key, value in optional.items() if value or key in ("inputs", "outputs")}


def _initializer(value: ir.Value, inline_all: bool) -> dict[str, Any]:
    tensor = value.const_value
    if tensor is None:
        raise DescriptionError("an initializer has no numbers", where=value.name)
    data: dict[str, Any] = {
        "dtype": values.dtype_name(tensor.dtype),
        "shape": list(tensor.shape.numpy()),
        "kind": traits.kind(value),
    }
    init = traits.initializer_spec(value)
    if init is not None:
        data["init"] = init
    elif inline_all or is_inline(value):
        data["value"] = values.tensor_to(tensor)
    metadata = {k: v for k, v in value.metadata_props.items() if k not in (traits.KIND, traits.INIT)}
    if metadata:
        data["metadata"] = metadata
    return data
