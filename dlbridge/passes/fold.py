"""Folding: what can be computed from constants alone is computed; what does nothing or is not used goes."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.keys import is_op, op_key
from dlbridge.passes import shapes
from dlbridge.passes.branches import take_known_branch
from dlbridge.passes.constants import constant, new_constant
from dlbridge.passes.sizes import Integers, Size, shape_of
from dlbridge.passes.slices import join_slices

#: A folded result may have this many elements, or as many as the constants that it is made of.
_MAX_ELEMENTS = 1 << 20
#: Constants up to this many elements are merged when they are equal.
_MERGED_ELEMENTS = 4096
#: Ops whose result is not a function of their inputs, or that say something which their result does not.
_KEPT = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"}
    | {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "If", "Loop", "Scan", "SequenceMap"}
)


#: Ops whose result has as many elements as a number among their inputs says.
_SIZED_BY_NUMBERS = frozenset(
    {"ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "Upsample", "OneHot", "CenterCropPad", "AffineGrid"}
    | {"HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix", "DFT", "STFT", "Col2Im", "MaxUnpool"}
)
#: Ops that the reference evaluator computes element by element, and of how many elements it may.
_SLOW = frozenset(
    {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "MaxPool", "AveragePool", "LpPool", "Resize"}
    | {"GridSample", "RoiAlign", "MaxRoiPool", "NonMaxSuppression", "LSTM", "GRU", "RNN", "Col2Im", "MaxUnpool", "LRN"}
    | {"AffineGrid", "TfIdfVectorizer", "Unique", "Upsample", "StringNormalizer"}
)
_SLOW_ELEMENTS = 1 << 14


def fold(model: Model) -> None:
    """Fold constants, drop nodes that do nothing, dead code and doubled constants; in place.

    Parameters and buffers are never folded away; names of inputs, outputs and of the nodes that stay do not change.
    ``Constant`` nodes and the initializers of subgraphs become initializers of the main graph, of kind ``constant``.
    Shapes are used where they are known (``passes.shapes.infer``); new values have theirs.
    """
    lift_constants(model.graph)
    known = shapes.follow(model.graph)
    for node in list(model.graph.all_nodes()):
        if node.domain == "" and not _fold_sizes(model.graph, node, known):
            _name_dtype(node)
            _fold_node(model.graph, node)
            _simplify_reshape(model.graph, node, known)
            _drop_zero_bias(node)
            _simplify_resize(model.graph, node, known)
            take_known_branch(model.graph, node)
    _share_sizes(model.graph, known)
    join_slices(model.graph)
    _merge_constants(model.graph)
    for node in list(model.graph.all_nodes()):
        if node.domain == "":
            remove_no_op(node)
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
        if not is_op(node, "Constant") or node.outputs[0].is_graph_output():
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


def _fold_sizes(graph: ir.Graph, node: ir.Node, known: Integers) -> bool:
    """Fold arithmetic on sizes that comes out at numbers whatever the named sizes are."""
    output = node.outputs[0]
    numbers = known.numbers(output)
    integer = output.dtype is not None and output.dtype.is_integer()
    if numbers is None or not integer or len(node.outputs) != 1 or output.is_graph_output() or is_op(node, "Constant"):
        return False
    array = np.asarray(numbers, output.dtype.numpy()).reshape(known.get(output).shape)
    _replace_by_constant(graph, node, ir.tensor(array, dtype=output.dtype))
    return True


def _share_sizes(graph: ir.Graph, known: Integers) -> None:
    """Let results that hold the same sizes be one, the first of each block, which reads its own tensors."""
    first: dict[tuple[object, ...], ir.Value] = {}
    for node in list(graph):
        output = node.outputs[0] if len(node.outputs) == 1 else None
        entries = known.get(output) if output is not None else None
        if entries is None or output.dtype is None or any(entry is None for entry in entries.flat):
            continue
        key = (
            traits.scope(node),
            node.metadata_props.get(traits.CALLS),
            output.dtype,
            entries.shape,
            *map(str, entries.flat),
        )
        earlier = first.setdefault(key, output)
        if earlier is not output and not output.is_graph_output():
            ir.convenience.replace_all_uses_with(output, earlier)


def _simplify_reshape(graph: ir.Graph, node: ir.Node, known: Integers) -> None:
    """Reshape by computed sizes, or of what is a reshape itself: by a constant, of what comes first.

    The constant has 0 where the size of the input stays and one -1.
    """
    if not is_op(node, "Reshape") or node.graph is None:
        return
    source, target = node.inputs[0], known.get(node.inputs[1])
    while source.producer() is not None and op_key(source.producer()) in _RESHAPES and not source.is_graph_output():
        source = source.producer().inputs[0]
    for start in dict.fromkeys((source, node.inputs[0])):
        if start is node.inputs[0] and constant(node.inputs[1]) is not None:
            return
        sizes = reshape_target(
            shape_of(node.outputs[0]) or (list(target) if target is not None else None), shape_of(start)
        )
        if sizes is not None:
            node.attributes.pop("allowzero", None)  # no size of the target is zero
            node.replace_input_with(0, start)
            node.replace_input_with(1, new_constant(graph, f"{node.outputs[0].name}.sizes", sizes))
            return


def _simplify_resize(graph: ir.Graph, node: ir.Node, known: Integers) -> None:
    """Resize to computed sizes, some of them the input's own: to constant ones on the other axes."""
    if not is_op(node, "Resize") or len(node.inputs) != 4 or node.inputs[3] is None or "axes" in node.attributes:
        return
    wanted, given = known.get(node.inputs[3]), shape_of(node.inputs[0])
    if constant(node.inputs[3]) is not None or wanted is None or given is None or len(wanted) != len(given):
        return
    axes = [axis for axis, size in enumerate(wanted) if size is None or size != given[axis]]
    numbers = [None if wanted[axis] is None else wanted[axis].number for axis in axes]
    policy = node.attributes.get("keep_aspect_ratio_policy")
    if not axes or None in numbers or (policy is not None and policy.as_string() != "stretch"):
        return
    node.attributes["axes"] = ir.AttrInt64s("axes", axes)
    node.replace_input_with(3, new_constant(graph, f"{node.outputs[0].name}.sizes", numbers))


#: Ops that give the same numbers in another shape.
_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


def reshape_target(wanted: list[Size | None] | None, given: list[Size | None] | None) -> list[int] | None:
    """The constant to reshape ``given`` to ``wanted`` by, if there is one."""
    if wanted is None or given is None:
        return None
    sizes: list[int] = []
    for axis, size in enumerate(wanted):
        if size is not None and size.number is not None:
            sizes.append(size.number)
        else:
            sizes.append(0 if size is not None and axis < len(given) and given[axis] == size else -1)
    empty = any(size is not None and size.number == 0 for size in wanted)
    return None if empty or sizes.count(-1) > 1 else sizes


def _name_dtype(node: ir.Node) -> None:
    """CastLike is a Cast where the dtype is known."""
    dtype = node.inputs[1].dtype if is_op(node, "CastLike") else None
    if dtype is not None:
        node.op_type = "Cast"
        node.resize_inputs(1)
        node.attributes["to"] = ir.AttrInt64("to", int(dtype))


#: op type -> the slot of a bias that may be left out.
_BIASES = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


def _drop_zero_bias(node: ir.Node) -> None:
    """A constant bias of zeros does nothing; torch.onnx writes one where a layer has none."""
    slot = _BIASES.get(op_key(node))
    bias = constant(node.inputs[slot]) if slot is not None and len(node.inputs) > slot else None
    if bias is not None and bias.size <= _MAX_ELEMENTS and not bias.numpy().any():
        node.resize_inputs(slot)


def _fold_node(graph: ir.Graph, node: ir.Node) -> None:
    """Replace a node whose inputs are all constants by its result."""
    if op_key(node) in _KEPT or is_op(node, "Constant") or not node.inputs or len(node.outputs) != 1:
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
    elements = _result_elements(node, tensors)
    if elements is None or elements > limit:
        return
    result = evaluate(node, tensors)
    if result is not None and result.size <= limit:
        _replace_by_constant(graph, node, result)


def _result_elements(node: ir.Node, given: list[ir.TensorProtocol | None]) -> int | None:
    """Elements of the result, before it is computed; None where they follow from numbers and are not known, or where
    the reference evaluator, which computes it in Python, would take long."""
    key = op_key(node)
    if key in _SLOW and max(t.size for t in given if t is not None) > _SLOW_ELEMENTS:
        return None
    shape = node.outputs[0].shape
    known = shape_elements(shape) if shape is not None else None
    if known is not None or key not in _SIZED_BY_NUMBERS:
        return known or 0
    first, *others = given
    numbers = [int(n) for t in others[:1] if t is not None and t.size <= 64 for n in t.numpy().reshape(-1)]
    match key:
        case "ConstantOfShape" if first is not None:
            return math.prod(int(n) for n in first.numpy().reshape(-1)[:64])
        case "Expand" if first is not None:
            return max(first.size, 1) * math.prod(numbers)
        case "Tile" if first is not None:
            return first.size * math.prod(numbers)
        case "Range":
            start, end, step = (float(t.numpy().reshape(-1)[0]) if t is not None and t.size else 0.0 for t in given)
            return math.ceil(abs((end - start) / step)) if step and math.isfinite(end - start) else None
    return None


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
    proto = onnx.NodeProto(domain=node.domain, op_type=node.op_type)
    proto.input.extend("" if t is None else f"x{i}" for i, t in enumerate(tensors))
    proto.output.append("y")
    proto.attribute.extend(ir.serde.serialize_attribute(a) for a in node.attributes.values())
    feeds = {f"x{i}": t.numpy() for i, t in enumerate(tensors) if t is not None}
    try:
        (result,) = ReferenceEvaluator(proto, opsets={"": traits.IR_OPSET}).run(None, feeds)
    except Exception:  # it runs Python on whatever a file says
        return None  # the op stays in the graph; its mistake, if it is one, is shape inference's to name
    dtype = node.outputs[0].dtype
    return ir.tensor(result, dtype=dtype) if dtype is not None else ir.tensor(result)


def _merge_constants(graph: ir.Graph) -> None:
    """Let equal constants be one; the first name stays. Each block keeps its own, as blocks alike are one class."""
    seen: dict[tuple[object, ...], ir.Value] = {}
    for value in list(graph.initializers.values()):
        tensor = constant(value)
        if tensor is None or tensor.size > _MERGED_ELEMENTS or tensor.dtype == ir.DataType.STRING:
            continue
        if tensor.size > 1 and tensor.dtype.is_floating_point():
            continue  # may be the weights of two layers that only start as equals
        if value.is_graph_output():
            continue
        scopes = frozenset(traits.scope(use.node) for use in value.uses()) if tensor.size > 1 else None
        key = (tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes(), scopes)
        first = seen.setdefault(key, value)
        if first is not value:
            ir.convenience.replace_all_uses_with(value, first)
            del graph.initializers[value.name]


def remove_no_op(node: ir.Node) -> None:
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
    match op_key(node):
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
            sizes = shape_of(source)
            return sizes is not None and None not in sizes and sizes == shape_of(output)
        case "Pad":
            pads = constant(node.inputs[1])
            return pads is not None and not pads.numpy().any()
    return False
