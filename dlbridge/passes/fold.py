"""Constant folding: computes what depends on constants alone, and removes what does nothing or is not used."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from dlbridge.ops import traits
from dlbridge.ops.keys import RANDOM_OPS, op_key
from dlbridge.passes import shapes
from dlbridge.passes.branches import take_known_branch
from dlbridge.passes.constants import constant, lift_constants, merge_constants, replace_by_constant
from dlbridge.passes.filled import take_number
from dlbridge.passes.integers import Integers
from dlbridge.passes.joined import take_part
from dlbridge.passes.matching import match
from dlbridge.passes.no_ops import remove_no_ops
from dlbridge.passes.reshaping import simplify_reshape, simplify_resize
from dlbridge.passes.rewriter import Rewriter
from dlbridge.passes.slices import join_slices
from dlbridge.passes.unused import remove_unused

#: A folded result may have this many elements, or as many as the constants that it is made of.
_MAX_ELEMENTS = 1 << 20
#: Ops whose result is not a function of their inputs, or that mean more than their result.
_KEPT = frozenset(
    {*RANDOM_OPS, "Dropout", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
    | {"If", "Loop", "Scan", "SequenceMap", "Constant"}
)
#: Ops with an input that states how many elements the result has.
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
#: Key of ``value.meta``: what the source's own framework computed for the result of a node on constants.
COMPUTED = "dlbridge.computed"
#: Op -> the slot of a bias that may be left out.
_BIASES = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


def fold(model: ir.Model) -> bool:
    """Fold constants, drop nodes that do nothing, dead code and doubled constants; in place.

    Parameters and buffers are never folded away; names of inputs, outputs and of the nodes that stay do not change.
    ``Constant`` nodes and the initializers of subgraphs become initializers of the main graph, of kind ``constant``.
    Shapes are used where they are known (``passes.shapes.infer``); new values have theirs.

    Returns:
        Whether anything was changed.
    """
    graph = model.graph
    changed = lift_constants(graph)
    known, rewriter = shapes.follow(graph), Rewriter(graph)
    for node in list(graph.all_nodes()):
        if node.domain == "":
            _fold_node(node, known, rewriter)
    _share_sizes(graph, known, rewriter)
    changed |= rewriter.changed
    changed |= join_slices(graph)
    changed |= merge_constants(graph)
    changed |= remove_no_ops(graph)
    changed |= remove_unused(graph)
    return changed


def _fold_node(node: ir.Node, known: Integers, rewriter: Rewriter) -> None:
    """Simplify one node; it may have been removed afterwards."""
    if _fold_sizes(node, known, rewriter):
        return
    _name_dtype(node, rewriter)
    if _fold_constants(node, rewriter) or take_part(node, known, rewriter):
        return
    simplify_reshape(node, known, rewriter)
    _drop_zero_bias(node, rewriter)
    take_number(node, rewriter)
    simplify_resize(node, known, rewriter)
    take_known_branch(node, rewriter)


def _fold_sizes(node: ir.Node, known: Integers, rewriter: Rewriter) -> bool:
    """Fold arithmetic on sizes whose result is the same number for all values of the named sizes."""
    output = node.outputs[0]
    numbers, entries = known.numbers(output), known.get(output)
    if numbers is None or entries is None or output.dtype is None or not output.dtype.is_integer():
        return False
    if len(node.outputs) != 1 or output.is_graph_output() or match(node, "Constant") is not None:
        return False
    array = np.asarray(numbers, output.dtype.numpy()).reshape(entries.shape)
    replace_by_constant(rewriter, node, ir.tensor(array, dtype=output.dtype))
    return True


def _share_sizes(graph: ir.Graph, known: Integers, rewriter: Rewriter) -> None:
    """Merge results that hold the same sizes into the first of each block, which reads tensors of that block."""
    first: dict[tuple[object, ...], ir.Value] = {}
    for node in list(graph):
        output = node.outputs[0]
        entries = known.get(output) if len(node.outputs) == 1 else None
        if entries is None or output.dtype is None or any(entry is None for entry in entries.flat):
            continue
        block = (traits.scope(node), node.metadata_props.get(traits.CALLS))
        earlier = first.setdefault((*block, output.dtype, entries.shape, *map(str, entries.flat)), output)
        if earlier is not output and not output.is_graph_output() and output.uses():
            output.replace_all_uses_with(earlier)
            rewriter.changed = True


def _name_dtype(node: ir.Node, rewriter: Rewriter) -> None:
    """CastLike is a Cast where the dtype is known."""
    like = match(node, "CastLike")
    dtype = None if like is None else like.operand(1).dtype
    if dtype is not None:
        node.op_type = "Cast"
        node.resize_inputs(1)
        node.attributes["to"] = ir.AttrInt64("to", int(dtype))
        rewriter.changed = True


def _drop_zero_bias(node: ir.Node, rewriter: Rewriter) -> None:
    """A constant bias of zeros does nothing; torch.onnx writes one where a layer has none."""
    layer = match(node, *_BIASES)
    slot = 0 if layer is None else _BIASES[layer.key]
    bias = None if layer is None else constant(layer.input(slot))
    if bias is not None and bias.size <= _MAX_ELEMENTS and not bias.numpy().any():
        node.resize_inputs(slot)
        rewriter.changed = True


# --- one op on constants ----------------------------------------------------------------------------------------------


def _fold_constants(node: ir.Node, rewriter: Rewriter) -> bool:
    """Replace a node whose inputs are all constants by its result."""
    if op_key(node) in _KEPT or not node.inputs or len(node.outputs) != 1 or node.outputs[0].is_graph_output():
        return False
    tensors = [constant(value) for value in node.inputs]
    if any(t is None and v is not None for t, v in zip(tensors, node.inputs, strict=True)):
        return False
    given = [t for t in tensors if t is not None]
    if not given or any(t.dtype == ir.DataType.STRING for t in given):
        return False
    limit = max(_MAX_ELEMENTS, sum(t.size for t in given))
    elements = _result_elements(node, tensors)
    if elements is None or elements > limit:
        return False
    result = _computed(node)
    if result is None:
        result = evaluate(node, tensors)
    if result is None or result.size > limit:
        return False
    replace_by_constant(rewriter, node, result)
    return True


def _computed(node: ir.Node) -> ir.TensorProtocol | None:
    """The numbers that the source's framework gives for a node, which fit the value as it is now."""
    output = node.outputs[0]
    tensor: ir.TensorProtocol | None = output.meta.get(COMPUTED)
    if tensor is None or tensor.dtype != output.dtype or tensor.shape != output.shape:
        return None
    return tensor


def _result_elements(node: ir.Node, given: Sequence[ir.TensorProtocol | None]) -> int | None:
    """Elements of the result, before it is computed; None where they follow from numbers and are not known, or where
    the reference evaluator, which computes it in Python, would take long."""
    key = op_key(node)
    if key in _SLOW and max(t.size for t in given if t is not None) > _SLOW_ELEMENTS:
        return None
    shape = node.outputs[0].shape
    known = None if shape is None else shape_elements(shape)
    if known is not None or key not in _SIZED_BY_NUMBERS:
        return known or 0
    if key == "Range":
        return _range_elements(given)
    first, *others = given
    if first is None:
        return None
    numbers = [int(n) for t in others[:1] if t is not None and t.size <= 64 for n in t.numpy().reshape(-1)]
    match key:
        case "ConstantOfShape":
            return math.prod(int(n) for n in first.numpy().reshape(-1)[:64])
        case "Expand":
            return max(first.size, 1) * math.prod(numbers)
        case "Tile":
            return first.size * math.prod(numbers)
    return None


def _range_elements(given: Sequence[ir.TensorProtocol | None]) -> int | None:
    start, end, step = (0.0 if t is None or not t.size else float(t.numpy().reshape(-1)[0]) for t in given)
    if not step or not math.isfinite(end - start):
        return None
    return math.ceil(abs((end - start) / step))


def shape_elements(shape: ir.Shape) -> int | None:
    """Number of elements of a shape; None when a size is not known."""
    total = 1
    for size in shape:
        if not isinstance(size, int):
            return None
        total *= size
    return total


def evaluate(node: ir.Node, tensors: Sequence[ir.TensorProtocol | None]) -> ir.TensorProtocol | None:
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
    return ir.tensor(result, dtype=node.outputs[0].dtype)
