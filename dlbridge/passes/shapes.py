"""Shape inference: the dtype and the shape of every value, in place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import onnx
import onnx_ir as ir

from dlbridge.errors import ShapeError
from dlbridge.ops import extension, traits
from dlbridge.ops.keys import op_key
from dlbridge.ops.strings import ML, ML_OPSET
from dlbridge.passes import shape_rules
from dlbridge.passes.integers import Integers
from dlbridge.passes.matching import Match, input_at, match, subgraphs
from dlbridge.passes.sizes import Size, Sizes

#: Initializers up to this many elements are shown to inference with their numbers: shapes are computed from them.
_SHOWN_ELEMENTS = 256


def infer(model: ir.Model) -> None:
    """Set dtype and shape of every value of the graph and its subgraphs, in place.

    The names of symbolic dims are kept and propagated. Weights are not read, but for small integer ones.

    Raises:
        ShapeError: When shapes or dtypes do not fit an op; the error names the node and the shapes that it was given.
    """
    proto = _skeleton(model)
    try:
        inferred = _inferred(proto)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, TypeError) as error:
        raise _explain(model, proto, error) from None
    _take_types(model.graph, inferred.graph)
    follow(model.graph)


def infer_open(model: ir.Model) -> bool:
    """Infer again (:func:`infer`) where a type or a size is still open; whether there was one."""
    values = (value for node in model.graph.all_nodes() for value in node.outputs)
    if not any(value.type is None or _is_open(value) for value in values):
        return False
    infer(model)
    return True


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types that onnx infers.

    With data propagation, which follows the numbers in small tensors, onnx takes each for a vector and fails on a
    matrix; it is then called again without.
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


def infer_node(node: ir.Node, known: Integers, opset: int = traits.IR_OPSET) -> None:
    """Set dtype and shape of the outputs of a node that was just made, as far as they follow; in place.

    Args:
        node: A node of a standard op, or one of the ``dlbridge`` domain, whose inputs have their types.
        known: What the small integer tensors hold; the node's results are added.
        opset: That of the node's graph.
    """
    for value, found in zip(node.outputs, _one_node_types(node, known, opset), strict=False):
        if found is not None:
            _set_type(value, found)
    if node.domain == extension.DOMAIN:
        node.outputs[0].type = _extension_type(node)
    if any(_is_open(value) for value in node.outputs):
        _close(node, known)
    known.visit(node)


def _extension_type(node: ir.Node) -> ir.TypeProtocol | None:
    """The type of the output of a node of the ``dlbridge`` domain."""
    if match(node, "CausalMask") is not None:
        return ir.TensorType(ir.DataType.BOOL)
    has_mask = match(node, "CompactSteps", "SpreadSteps") is not None
    like = node.inputs[0] if has_mask else input_at(node, 1) or node.inputs[0]
    return None if like is None else like.type


def walk(
    graph: ir.Graph, change: Callable[[ir.Node, Integers], Iterable[ir.Node]], opset: int = traits.IR_OPSET
) -> None:
    """Infer types and sizes node by node, each after a change of it, in place; the graphs within included.

    Args:
        graph: A main graph.
        change: May change a node, whose inputs have their types, and put others before it or in its place. Returns the
            nodes that stand for it afterwards.
        opset: That of the graph.
    """
    known, seen = Integers(), set[ir.Node]()
    for value in graph.initializers.values():
        if value.const_value is not None:
            value.dtype, value.shape = value.const_value.dtype, ir.Shape(value.const_value.shape.numpy())
    for node in list(graph.all_nodes()):
        for made in change(node, known):
            for each in _unseen(made, seen):
                if each.domain == extension.DOMAIN or onnx.defs.has(op_key(each), max_inclusive_version=opset):
                    infer_node(each, known, opset)


def _unseen(node: ir.Node, seen: set[ir.Node]) -> list[ir.Node]:
    """A node and those that it depends on, these first, without those that were seen."""
    found, pending = list[ir.Node](), [node]
    while pending:
        last = pending[-1]
        makers = [v.producer() for v in last.inputs if v is not None]
        missing = [maker for maker in makers if maker is not None and maker not in seen]
        if last in seen or not missing:
            pending.pop()
            if last not in seen:
                seen.add(last)
                found.append(last)
        else:
            pending += missing
    return found


def _is_open(value: ir.Value) -> bool:
    if value.shape is None:
        return not isinstance(value.type, (ir.SequenceType, ir.OptionalType))
    return any(_is_unknown(size) for size in value.shape)


def _is_unknown(size: int | ir.SymbolicDim) -> bool:
    return not isinstance(size, int) and (size.value is None or "unk__" in str(size.value))


def _close(node: ir.Node, known: Integers) -> None:
    """Set the sizes of a node's outputs that are open, by our rules, else by onnx's."""
    loop = match(node, "Loop")
    if loop is not None:
        _settle(loop, known)
        return
    for value, sizes in zip(node.outputs, _found_shapes(node, known), strict=False):
        if sizes is None or (value.shape is not None and len(value.shape) != len(sizes)):
            continue
        old = value.shape if value.shape is not None else [None] * len(sizes)
        value.shape = ir.Shape([_more_known(before, size) for before, size in zip(old, sizes, strict=True)])


def _found_shapes(node: ir.Node, known: Integers) -> list[Sizes | None]:
    """The shapes of a node's outputs, as far as they follow."""
    rule = shape_rules.RULES.get((node.domain, node.op_type))
    first = None if rule is None else rule(Match(node), known)
    if first is None:
        return [None if t is None else shape_of_type(t) for t in _one_node_types(node, known)]
    several = match(node, "Split") is not None
    return [first] * len(node.outputs) if several else [first]


def _more_known(before: int | ir.SymbolicDim | None, found: Size | None) -> int | str | ir.SymbolicDim | None:
    """The size that was known before, or else the new one."""
    if found is None or (before is not None and not _is_unknown(before)):
        return before
    return found.dim()


def _settle(loop: Match, known: Integers) -> None:
    """Find which states of a loop keep their shape: those that do so in one round, of states of their first shapes.

    onnx's inference takes it that a state may have another shape in each round.
    """
    body = loop.node.attributes["body"].as_graph()
    inputs, outputs = loop.node.inputs[2:], loop.node.outputs
    states = list(zip(inputs, body.inputs[2:], body.outputs[1:], outputs, strict=False))
    kept = [(f, *others) for f, *others in states if f is not None and f.shape is not None]
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
    for one, all_rounds in zip(body.outputs[1 + len(states) :], outputs[len(states) :], strict=True):
        if one.shape is not None and all_rounds.shape is None:
            all_rounds.shape = ir.Shape([None, *one.shape])


def _one_node_types(node: ir.Node, known: Integers, opset: int = traits.IR_OPSET) -> list[onnx.TypeProto | None]:
    typed = all(v is None or (v.shape is not None and isinstance(v.type, ir.TensorType)) for v in node.inputs)
    opsets = {"": opset, ML: ML_OPSET}
    known_domain = node.domain in opsets
    if not known_domain or not typed or any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
        return []
    proto = ir.serde.serialize_node(node)
    types, numbers = {}, {}
    for value in node.inputs:
        if value is None:
            continue
        types[value.name] = ir.serde.serialize_value(value).type
        entries, found = known.numbers(value), known.get(value)
        if entries is not None and found is not None and value.dtype is not None:
            array = np.asarray(entries, value.dtype.numpy()).reshape(found.shape)
            numbers[value.name] = onnx.numpy_helper.from_array(array)
    schema = onnx.defs.get_schema(node.op_type, opsets[node.domain], node.domain)
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    try:
        result = onnx.shape_inference.infer_node_outputs(schema, proto, types, numbers or None, opset_imports=imports)
    except onnx.shape_inference.InferenceError:
        return []  # what is wrong with the node, if anything, whole inference has said
    return [result.get(v.name) for v in node.outputs]


def shape_of_type(proto: onnx.TypeProto) -> Sizes | None:
    """The sizes in a type."""
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
            value.dtype, value.shape = tensor.dtype, ir.Shape(tensor.shape.numpy())
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
            for subgraph in subgraphs(attribute):
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
    if value.shape is not None and len(value.shape) == len(shape):
        shape = ir.Shape([_not_less_known(old, new) for old, new in zip(value.shape, shape, strict=True)])
    value.shape = shape


def _not_less_known(old: int | ir.SymbolicDim, new: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
    """The new size, but the old one where only that is known."""
    return old if _is_made_up(new) and not _is_made_up(old) else new


def _is_made_up(size: int | ir.SymbolicDim) -> bool:
    """Whether a size is open, or has a number for a name (``unk__3``) that inference has given it."""
    return not isinstance(size, int) and (size.value is None or str(size.value).startswith("unk__"))


def _explain(model: ir.Model, proto: onnx.ModelProto, error: Exception) -> ShapeError:
    """The error of onnx in words of the user's model: which node, and the shapes that it was given."""
    first = str(error).partition("\n")[0]  # a line an error; the nodes behind the first one fail with it
    names = re.findall(r"node name: ([^)]*)\)", first)  # from the outermost graph to the innermost
    name = names[-1] if names else None
    reason = first.rpartition("Error] ")[2].strip() or type(error).__name__
    node = next((n for n in ir.traversal.RecursiveGraphIterator(model.graph) if name and n.name == name), None)
    if node is None:
        return ShapeError(reason, where=name or model.graph.name)
    shapes = _lenient_types(proto)
    inputs = ", ".join(f"{v.name}: {shapes.get(v.name or '', _text(v))}" for v in node.inputs if v is not None)
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
