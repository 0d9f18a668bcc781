"""Folding: what can be computed from constants alone is computed; what does nothing or is not used goes."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from dlbridge.model import Model
from dlbridge.ops import traits

#: A folded result may have this many elements, or as many as the constants that it is made of.
_MAX_ELEMENTS = 1 << 20
#: Constants up to this many elements are merged when they are equal.
_MERGED_ELEMENTS = 4096
#: Ops whose result is not a function of their inputs, or that say something which their result does not.
_KEPT = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"}
    | {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "If", "Loop", "Scan", "SequenceMap"}
)


def fold(model: Model) -> None:
    """Fold constants, drop nodes that do nothing, dead code and doubled constants; in place.

    Parameters and buffers are never folded away; names of inputs, outputs and of the nodes that stay do not change.
    ``Constant`` nodes and the initializers of subgraphs become initializers of the main graph, of kind ``constant``.
    Shapes are used where they are known (``passes.shapes.infer``); new values have theirs.
    """
    lift_constants(model.graph)
    for node in list(model.graph.all_nodes()):
        if node.domain == "" and not _fold_shape(model.graph, node):
            _fold_node(model.graph, node)
    _merge_constants(model.graph)
    for node in list(model.graph.all_nodes()):
        if node.domain == "":
            _remove_no_op(node)
    remove_unused(model.graph)


def remove_unused(graph: ir.Graph) -> None:
    """Remove nodes whose results nobody reads, and constants that nobody reads; weights stay. In place."""
    for node in reversed(graph):
        if any(v.is_graph_output() or v.uses() for v in node.outputs):
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH:
                    remove_unused(attribute.as_graph())
        else:
            graph.remove(node, safe=True)
    for value in list(graph.initializers.values()):
        used = value.uses() or value.is_graph_output() or value.is_graph_input()
        if not used and traits.kind(value) == "constant":
            del graph.initializers[value.name]


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of a value that is a constant (never that of a parameter or buffer), else None."""
    if value is None or value.const_value is None or value.is_graph_input() or traits.kind(value) != "constant":
        return None
    return value.const_value if value.is_initializer() else None


def lift_constants(graph: ir.Graph) -> None:
    """Make initializers of the main graph of all ``Constant`` nodes and of the initializers of subgraphs; in place."""
    taken = {v.name for v in graph.inputs} | set(graph.initializers)
    taken |= {v.name for node in graph.all_nodes() for v in node.outputs}
    for subgraph in graph.subgraphs():
        for name, value in list(subgraph.initializers.items()):
            if value.is_graph_input() or value.is_graph_output():
                continue
            del subgraph.initializers[name]
            value.name = _fresh(name, taken)
            graph.register_initializer(value)
    for node in list(graph.all_nodes()):
        if node.op_type != "Constant" or node.domain != "" or node.outputs[0].is_graph_output():
            continue
        tensor = _constant_tensor(node)
        if tensor is not None:
            _replace_by_constant(graph, node, tensor)


def _fresh(name: str, taken: set[str]) -> str:
    fresh = next(n for n in (name, *(f"{name}_{i}" for i in range(len(taken) + 1))) if n not in taken)
    taken.add(fresh)
    return fresh


def _constant_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    """What a Constant node holds; None for strings and sparse tensors."""
    ((name, attribute),) = node.attributes.items()
    if name == "value":
        return attribute.as_tensor()
    if name in ("value_float", "value_floats"):
        return ir.tensor(attribute.value, dtype=ir.DataType.FLOAT)
    if name in ("value_int", "value_ints"):
        return ir.tensor(attribute.value, dtype=ir.DataType.INT64)
    return None


def _replace_by_constant(graph: ir.Graph, node: ir.Node, tensor: ir.TensorProtocol) -> None:
    """Put an initializer of the main graph in the place of a node's only output, under its name."""
    output = node.outputs[0]
    value = ir.Value(name=output.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape))
    value.const_value = tensor
    ir.convenience.replace_all_uses_with(output, value)
    node.graph.remove(node, safe=True)
    graph.register_initializer(value)


def _fold_shape(graph: ir.Graph, node: ir.Node) -> bool:
    """Fold Shape of sizes that are all known, and Size."""
    if node.op_type not in ("Shape", "Size") or node.outputs[0].is_graph_output():
        return False
    shape = node.inputs[0].shape
    if shape is None:
        return False
    start, end = (node.attributes[k].as_int() if k in node.attributes else None for k in ("start", "end"))
    sizes = list(shape)[start:end]
    if not all(isinstance(size, int) for size in sizes):
        return False
    if node.op_type == "Size":
        total = 1
        for size in sizes:
            total *= size
        _replace_by_constant(graph, node, ir.tensor(total, dtype=ir.DataType.INT64))
    else:
        _replace_by_constant(graph, node, ir.tensor(sizes, dtype=ir.DataType.INT64))
    return True


def _fold_node(graph: ir.Graph, node: ir.Node) -> None:
    """Replace a node whose inputs are all constants by its result."""
    if node.op_type in _KEPT or node.op_type == "Constant" or not node.inputs or len(node.outputs) != 1:
        return
    if node.outputs[0].is_graph_output():
        return
    tensors = [None if value is None else constant(value) for value in node.inputs]
    if any(t is None and v is not None for t, v in zip(tensors, node.inputs, strict=True)):
        return
    given = [t for t in tensors if t is not None]
    if not given or any(t.dtype == ir.DataType.STRING for t in given):
        return
    limit = max(_MAX_ELEMENTS, sum(t.size for t in given))
    if _result_elements(node, given) > limit:
        return
    result = evaluate(node, tensors)
    if result is not None and result.size <= limit:
        _replace_by_constant(graph, node, result)


def _result_elements(node: ir.Node, given: list[ir.TensorProtocol]) -> int:
    """Elements of the result where that can be said before it is computed; 0 where not."""
    if node.op_type == "ConstantOfShape":
        return int(given[0].numpy().prod())
    shape = node.outputs[0].shape
    return shape_elements(shape) or 0 if shape is not None else 0


def shape_elements(shape: ir.Shape) -> int | None:
    """Number of elements of a shape; None when a size is not known."""
    total = 1
    for size in shape:
        if not isinstance(size, int):
            return None
        total *= size
    return total


def evaluate(node: ir.Node, tensors: list[ir.TensorProtocol | None]) -> ir.TensorProtocol | None:
    """The result of one standard op on constants, by the reference evaluator; None when it does not know the op."""
    proto = onnx.NodeProto(op_type=node.op_type)
    proto.input.extend("" if t is None else f"x{i}" for i, t in enumerate(tensors))
    proto.output.append("y")
    proto.attribute.extend(ir.serde.serialize_attribute(a) for a in node.attributes.values())
    feeds = {f"x{i}": t.numpy() for i, t in enumerate(tensors) if t is not None}
    try:
        (result,) = ReferenceEvaluator(proto, opsets={"": traits.IR_OPSET}).run(None, feeds)
    except (NotImplementedError, RuntimeError, ValueError, TypeError, IndexError):
        return None  # the op stays in the graph; its mistake, if it is one, is shape inference's to name
    dtype = node.outputs[0].dtype
    return ir.tensor(result, dtype=dtype) if dtype is not None else ir.tensor(result)


def _merge_constants(graph: ir.Graph) -> None:
    """Let equal constants be one; the first name stays."""
    seen: dict[tuple[object, ...], ir.Value] = {}
    for value in list(graph.initializers.values()):
        tensor = constant(value)
        if tensor is None or tensor.size > _MERGED_ELEMENTS or tensor.dtype == ir.DataType.STRING:
            continue
        if tensor.size > 1 and tensor.dtype.is_floating_point():
            continue  # may be the weights of two layers that only start as equals
        if value.is_graph_output():
            continue
        key = (tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes())
        first = seen.setdefault(key, value)
        if first is not value:
            ir.convenience.replace_all_uses_with(value, first)
            del graph.initializers[value.name]


def _remove_no_op(node: ir.Node) -> None:
    """Let the readers of a node that hands its input on read that input."""
    if not _is_no_op(node):
        return
    source, output = node.inputs[0], node.outputs[0]
    if output.is_graph_output():
        produced_here = source.producer() is not None and source.producer().graph is node.graph
        if not produced_here or source.is_graph_output():
            return
        ir.convenience.replace_all_uses_with(output, source, replace_graph_outputs=True)
        name, output.name = output.name, None
        source.name = name
    else:
        ir.convenience.replace_all_uses_with(output, source)
    node.graph.remove(node, safe=True)


def _is_no_op(node: ir.Node) -> bool:
    source, output = node.inputs[0] if node.inputs else None, node.outputs[0]
    if source is None or len(node.outputs) != 1:
        return False
    match node.op_type:
        case "Identity":
            return True
        case "Cast":
            return source.dtype is not None and source.dtype == node.attributes["to"].as_int()
        case "Transpose":
            perm = node.attributes["perm"].as_ints() if "perm" in node.attributes else None
            return perm is not None and list(perm) == sorted(perm)
        case "Concat" | "Sum" | "Max" | "Min" | "Mean":
            return len(node.inputs) == 1
        case "Reshape" | "Expand" | "Flatten":
            known = source.shape is not None and output.shape is not None and source.shape == output.shape
            return known and all(isinstance(size, int) for size in source.shape)
        case "Pad":
            pads = constant(node.inputs[1])
            return pads is not None and not pads.numpy().any()
    return False
