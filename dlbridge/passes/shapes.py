"""Shape inference: the dtype and the shape of every value, in place."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir

from dlbridge.errors import ShapeError
from dlbridge.model import Model
from dlbridge.ops import extension, traits
from dlbridge.ops.keys import is_op, op_key
from dlbridge.passes import shape_rules
from dlbridge.passes.sizes import Integers, Size

#: Initializers up to this many elements are shown to inference with their numbers: shapes are computed from them.
_SHOWN_ELEMENTS = 256


def infer(model: Model) -> None:
    """Set dtype and shape of every value of the graph and its subgraphs, in place.

    The names of symbolic dims are kept and propagated. Weights are not read, but for small integer ones.

    Raises:
        ShapeError: When shapes or dtypes do not fit an op; the error names the node and the shapes that it was given.
    """
    proto = _skeleton(model.ir)
    try:
        inferred = _inferred(proto)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, TypeError) as error:
        raise _explain(model, proto, error) from None
    _take_types(model.graph, inferred.graph)
    follow(model.graph)


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types that onnx infers.

    Following the numbers in small tensors, onnx takes every one for a vector, and stumbles over a table: then without.
    """
    try:
        return onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=False)


def follow(graph: ir.Graph) -> Integers:
    """Find the sizes that onnx's inference leaves open or only numbers (``unk__3``), by rules of our own; in place.

    Returns:
        What the small integer tensors of the graph hold.
    """
    known = Integers()
    for node in graph.all_nodes():
        if any(_is_open(value) for value in node.outputs):
            _close(node, known)
        known.visit(node)
    return known


def infer_node(node: ir.Node, known: Integers) -> None:
    """Set dtype and shape of the outputs of a node that was just made, as far as they follow; in place.

    Args:
        node: A node of a standard op, or one of the ``dlbridge`` domain, whose inputs have their types.
        known: What the small integer tensors hold; the node's results are added.
    """
    for value, found in zip(node.outputs, _one_node_types(node, known), strict=False):
        if found is not None:
            _set_type(value, found)
    if node.domain == extension.DOMAIN:
        node.outputs[0].dtype = node.inputs[min(1, len(node.inputs) - 1)].dtype  # the weight's, where there is one
    if any(_is_open(value) for value in node.outputs):
        _close(node, known)
    known.visit(node)


def _is_open(value: ir.Value) -> bool:
    if value.shape is None:
        return not isinstance(value.type, (ir.SequenceType, ir.OptionalType))
    return any(_is_unknown(size) for size in value.shape)


def _is_unknown(size: int | ir.SymbolicDim) -> bool:
    return not isinstance(size, int) and (size.value is None or "unk__" in str(size.value))


def _close(node: ir.Node, known: Integers) -> None:
    if is_op(node, "Loop"):
        _settle(node, known)
        return
    rule = shape_rules.RULES.get((node.domain, node.op_type))
    found = [rule(node, known)] * (len(node.outputs) if is_op(node, "Split") else 1) if rule is not None else None
    if found is None or found[0] is None:
        found = _one_node(node, known)
    for value, sizes in zip(node.outputs, found, strict=False):
        if sizes is None or (value.shape is not None and len(value.shape) != len(sizes)):
            continue
        old = value.shape if value.shape is not None else [None] * len(sizes)
        value.shape = ir.Shape(
            [
                size.dim() if size is not None and (before is None or _is_unknown(before)) else before
                for size, before in zip(sizes, old, strict=True)
            ]
        )


def _settle(loop: ir.Node, known: Integers) -> None:
    """Find which states of a loop keep their shape: those that do so in one round, of states of their first shapes.

    onnx's inference takes it that a state may have another shape in each round.
    """
    body = loop.attributes["body"].as_graph()
    states = list(zip(loop.inputs[2:], body.inputs[2:], body.outputs[1:], loop.outputs, strict=False))
    kept = [state for state in states if state[0] is not None and state[0].shape is not None]
    before = {v: v.shape for v in (*body.inputs, *(o for node in body for o in node.outputs))}
    while kept:
        for first, taken, _, _ in kept:
            taken.shape = first.shape
        for node in body:
            infer_node(node, known)
        lasting = [state for state in kept if state[2].shape == state[0].shape]
        if len(lasting) == len(kept):
            break
        kept = lasting
        for value, shape in before.items():
            value.shape = shape
    for first, _, _, last in kept:
        last.shape = first.shape
    for one, all_rounds in zip(body.outputs[1 + len(states) :], loop.outputs[len(states) :], strict=True):
        if one.shape is not None and all_rounds.shape is None:
            all_rounds.shape = ir.Shape([None, *one.shape])


def _one_node(node: ir.Node, known: Integers) -> list[list[Size | None] | None]:
    """Shapes of a standard op's outputs by onnx's inference, now that more is known of its inputs."""
    return [None if t is None else shape_of_type(t) for t in _one_node_types(node, known)]


def _one_node_types(node: ir.Node, known: Integers) -> list[onnx.TypeProto | None]:
    typed = all(v is None or (v.shape is not None and isinstance(v.type, ir.TensorType)) for v in node.inputs)
    if node.domain != "" or not typed or any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
        return []
    proto = ir.serde.serialize_node(node)
    types, numbers = {}, {}
    for value in node.inputs:
        if value is None:
            continue
        types[value.name] = ir.serde.serialize_value(value).type
        entries = known.numbers(value)
        if entries is not None:
            array = np.asarray(entries, value.dtype.numpy()).reshape(known.get(value).shape)
            numbers[value.name] = onnx.numpy_helper.from_array(array)
    schema = onnx.defs.get_schema(op_key(node), traits.IR_OPSET, "")
    try:
        result = onnx.shape_inference.infer_node_outputs(schema, proto, types, numbers or None)
    except onnx.shape_inference.InferenceError:
        return []  # what is wrong with the node, if anything, whole inference has said
    return [result.get(v.name) for v in node.outputs]


def shape_of_type(proto: onnx.TypeProto) -> list[Size | None] | None:
    """The sizes that a type says."""
    shape = ir.serde.deserialize_type_proto_for_shape(proto)
    return None if shape is None else [Size.of(size) for size in shape]


def infer_lenient(model: ir.Model) -> None:
    """Set what can be inferred in a graph of any opset, in place; errors are passed over."""
    proto = _skeleton(model)
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=False, data_prop=True)
    _take_types(model.graph, inferred.graph)


def _take_types(graph: ir.Graph, inferred: onnx.GraphProto) -> None:
    for part, result in zip(_graphs(graph), _graph_protos(inferred), strict=True):
        types = {info.name: info.type for info in (*result.value_info, *result.input, *result.output)}
        for value in part.inputs:  # those of subgraphs need not say their types
            if value.type is None and value.name in types:
                _set_type(value, types[value.name])
        for node in part:
            for value in node.outputs:
                if value.name in types:
                    _set_type(value, types[value.name])


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model as a proto in which big weights are inputs and no intermediate value has a type yet."""
    proto = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in model.graph.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    for function in model.functions.values():
        proto.functions.append(ir.serde.serialize_function(function))
    proto.graph.name = model.graph.name or "model"
    for value in model.graph.inputs:
        proto.graph.input.append(ir.serde.serialize_value(value))
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None:
            value.dtype, value.shape = tensor.dtype, ir.Shape(tensor.shape)
        if tensor is not None and tensor.size <= _SHOWN_ELEMENTS and tensor.dtype.is_integer():
            shown = ir.serde.serialize_tensor(ir.Tensor(tensor.numpy(), dtype=tensor.dtype))
            shown.name = value.name
            proto.graph.initializer.append(shown)
        elif not value.is_graph_input():
            proto.graph.input.append(ir.serde.serialize_value(value))
    proto.graph.node.extend(ir.serde.serialize_node(node) for node in model.graph)
    for value in model.graph.outputs:
        proto.graph.output.add(name=value.name)
    for subgraph in _graph_protos(proto.graph):
        del subgraph.value_info[:]
    return proto


def _graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    """A graph and its subgraphs, in the order of :func:`_graph_protos`."""
    yield graph
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _graphs(attribute.as_graph())
            elif attribute.type == ir.AttributeType.GRAPHS:
                for subgraph in attribute.as_graphs():
                    yield from _graphs(subgraph)


def _graph_protos(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graph_protos(attribute.g)
            elif attribute.type == onnx.AttributeProto.GRAPHS:
                for subgraph in attribute.graphs:
                    yield from _graph_protos(subgraph)


def _set_type(value: ir.Value, proto: onnx.TypeProto) -> None:
    """Take what was inferred; where inference knows no size, what was known of it before stays."""
    known = ir.serde.deserialize_type_proto_for_type(proto)
    shape = ir.serde.deserialize_type_proto_for_shape(proto)
    if known is not None:
        value.type = known
    if shape is None:
        return
    before = value.shape if value.shape is not None and len(value.shape) == len(shape) else None
    sizes: list[int | str | None] = []
    for axis, size in enumerate(shape):
        name = size if isinstance(size, int) else size.value
        if before is not None and (name is None or str(name).startswith("unk__")):
            old = before[axis]
            old_name = old if isinstance(old, int) else old.value
            if old_name is not None and not str(old_name).startswith("unk__"):
                name = old_name
        sizes.append(name)
    value.shape = ir.Shape(sizes)


def _explain(model: Model, proto: onnx.ModelProto, error: Exception) -> ShapeError:
    """The error of onnx in words of the user's model: which node, and the shapes that it was given."""
    text = str(error)
    found = re.search(r"node name: ([^)]*)\)", text)
    name = found.group(1) if found else None
    reason = text.rpartition("Error] ")[2].strip().splitlines()[0] if text else type(error).__name__
    node = next((n for n in ir.traversal.RecursiveGraphIterator(model.graph) if name and n.name == name), None)
    if node is None:
        return ShapeError(reason, where=name or model.name)
    shapes = _lenient_types(proto)
    inputs = ", ".join(f"{v.name}: {shapes.get(v.name, _text(v))}" for v in node.inputs if v is not None)
    return ShapeError(f"{node.op_type} cannot take ({inputs}): {reason}", where=name)


def _lenient_types(proto: onnx.ModelProto) -> dict[str, str]:
    """Value name -> 'FLOAT[2,3]' of all values that can be inferred when errors are passed over."""
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=False, data_prop=True)
    return {
        info.name: _text(ir.serde.deserialize_value_info_proto(info, None))
        for graph in _graph_protos(inferred.graph)
        for info in (*graph.input, *graph.value_info)
    }


def _text(value: ir.Value) -> str:
    return f"{value.dtype}{value.shape if value.shape is not None else '[?]'}"
