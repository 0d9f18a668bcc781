"""Writes a model as ONNX: standard ops only, at the requested opset."""

from __future__ import annotations

import functools
import json

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

import dlbridge
from dlbridge.frameworks.onnx import WriteOptions
from dlbridge.frameworks.onnx.source import OnnxSource
from dlbridge.model import Model
from dlbridge.ops import extension, traits
from dlbridge.ops.keys import is_op, op_key
from dlbridge.passes import fold, shapes
from dlbridge.passes.downgrade import downgrade
from dlbridge.passes.inline import expand

#: Suffix of the name of a weight that was transposed at export.
TRANSPOSED = ".T"
_METADATA_PREFIX = "dlbridge."


def write(model: Model, options: WriteOptions) -> OnnxSource:
    """Write a model in standard ops at an opset.

    Names stay: node names are dotted paths, initializers have their state-dict keys (a ``Linear`` that is not of rank 2
    keeps its weight transposed, as ``fc.weight.T``), inputs, outputs and symbolic dims are the model's, and the graph's
    metadata tells the classes of blocks; that of the model, what its sizes must keep (``dlbridge.constraints``).

    Args:
        model: Left as it is.
        options: The opset is 13 to ``IR_OPSET``, ``EXPORT_OPSET`` when None; the metadata are dlbridge's traits, under
            ``dlbridge.`` keys of ``metadata_props``.

    Raises:
        DlbridgeError: When there is no such opset.
        ShapeError: When shapes or dtypes do not fit.
        UnsupportedOpError: When ops cannot be said at that opset; all are named, with the lowest opset that has them.
    """
    opset = traits.EXPORT_OPSET if options.opset is None else options.opset
    copy = model.clone()
    shapes.infer(copy)
    for node in [n for n in copy.graph.all_nodes() if n.domain == extension.DOMAIN]:
        _LOWER.get(op_key(node), _lower_by_function)(node)
    for key in [k for k in copy.ir.functions if k[0] == extension.DOMAIN]:
        del copy.ir.functions[key]
    copy.graph.opset_imports.pop(extension.DOMAIN, None)
    InlinePass()(copy.ir)
    for node in [n for n in copy.graph.all_nodes() if is_op(n, "BatchNormalization")]:
        _expand_batch_statistics(node)
    for node in [n for n in copy.graph.all_nodes() if is_op(n, "Attention")]:
        _stretch_mask(node)
    _drop_unused_weights(copy.graph)
    written = downgrade(copy, opset)
    written.ir_version = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    written.producer_name, written.producer_version = "dlbridge", dlbridge.__version__
    if not options.metadata:
        _strip_metadata(written)
    limits = [c.text for c in traits.constraints(model.graph)]
    if limits:  # of the model, where onnxruntime shows it
        written.metadata_props[traits.CONSTRAINTS] = json.dumps(limits)
    source = OnnxSource(model, written, opset)
    source.check()
    return source


# --- the extension domain in standard ops ---------------------------------------------------------------------------


def _linear(node: ir.Node) -> None:
    x, weight = node.inputs[0], node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    assert x is not None and weight is not None
    if x.shape is not None and len(x.shape) == 2:
        operands = [v for v in (x, weight, bias) if v is not None]
        _become(node, ir.node("Gemm", operands, {"transB": 1}))
        return
    product = ir.node("MatMul", [x, _transposed(node, weight)], name=f"{node.name}_product" if bias else node.name)
    if bias is None:
        _become(node, product)
        return
    product.outputs[0].name = f"{node.name}_product"
    node.graph.insert_before(node, product)  # type: ignore[union-attr]
    _become(node, ir.node("Add", [product.outputs[0], bias]))


def _transposed(node: ir.Node, weight: ir.Value) -> ir.Value:
    """Transpose a weight: at export, unless other nodes read it untransposed (it would be stored twice)."""
    graph, tensor = weight.graph, weight.const_value
    only_here = all(is_op(use.node, "Linear") and use.idx == 1 for use in weight.uses())
    made = graph.initializers.get(f"{weight.name}{TRANSPOSED}") if graph is not None else None
    if made is not None:
        return made
    if tensor is None or graph is None or not weight.is_initializer() or weight.is_graph_input() or not only_here:
        flip = ir.node("Transpose", [weight], {"perm": [1, 0]}, name=f"{node.name}_transposed")
        flip.outputs[0].name = f"{node.name}_transposed"
        node.graph.insert_before(node, flip)  # type: ignore[union-attr]
        return flip.outputs[0]
    name, flipped = f"{weight.name}{TRANSPOSED}", tensor.shape.numpy()[::-1]
    lazy = ir.LazyTensor(functools.partial(_transpose, tensor), dtype=tensor.dtype, shape=ir.Shape(flipped), name=name)
    made = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(flipped), const_value=lazy)
    made.metadata_props.update(weight.metadata_props)
    graph.register_initializer(made)
    return made


def _transpose(tensor: ir.TensorProtocol) -> ir.Tensor:
    return ir.Tensor(np.ascontiguousarray(tensor.numpy().T), dtype=tensor.dtype)


def _embedding(node: ir.Node) -> None:
    indices, weight = node.inputs
    _become(node, ir.node("Gather", [weight, indices], {"axis": 0}))


def _lower_by_function(node: ir.Node) -> None:
    expand(node, extension.function(op_key(node), node.overload))


def _become(node: ir.Node, new: ir.Node) -> None:
    """Replace ``node`` by ``new``, which has one output; name and metadata stay."""
    old, value, name = node.outputs[0], new.outputs[0], node.outputs[0].name
    new.name = node.name
    new.metadata_props.update(node.metadata_props)
    value.type, value.shape = old.type, old.shape
    node.graph.insert_before(node, new)  # type: ignore[union-attr]
    old.replace_all_uses_with(value, replace_graph_outputs=True)
    old.name, value.name = f"{name}.replaced", name
    node.graph.remove(node, safe=True)  # type: ignore[union-attr]


def _stretch_mask(node: ir.Node) -> None:
    """Expand a mask of one row to one row per query, which onnxruntime 1.32 requires."""
    query, mask = node.inputs[0], node.inputs[3] if len(node.inputs) > 3 else None
    if mask is None or mask.shape is None or len(mask.shape) < 2 or mask.shape[-2] != 1 or query.shape[-2] == 1:
        return
    rows = ir.node("Shape", [query], {"start": -2, "end": -1}, name=f"{node.name}_rows")
    one = ir.node("Constant", [], {"value_ints": [1]}, name=f"{node.name}_one")
    shape = ir.node("Concat", [rows.outputs[0], one.outputs[0]], {"axis": 0}, name=f"{node.name}_mask_shape")
    wide = ir.node("Expand", [mask, shape.outputs[0]], name=f"{node.name}_mask")
    for made in (rows, one, shape, wide):
        made.outputs[0].name = made.name
        node.graph.insert_before(node, made)
    node.replace_input_with(3, wide.outputs[0])


def _expand_batch_statistics(node: ir.Node) -> None:
    """Replace a batch norm by the statistics of the batch by arithmetic: onnxruntime has no kernel for it."""
    mode, x = node.attributes.get("training_mode"), node.inputs[0]
    if mode is None or not mode.as_int() or x is None or x.shape is None:
        return
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        return
    axes = [0, *range(2, len(x.shape))]
    shape = [-1, *[1] * (len(x.shape) - 2)]
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    text = f"""BatchStatistics (X, scale, B, mean, var) => (Y) {{
        axes = Constant <value_ints = {axes}> ()
        shape = Constant <value_ints = {shape}> ()
        single = Constant <value_float = {epsilon!r}> ()
        epsilon = Cast <to = {int(x.dtype or 1)}> (single)
        centre = ReduceMean <keepdims = 1> (X, axes)
        centred = Sub (X, centre)
        squares = Mul (centred, centred)
        variance = ReduceMean <keepdims = 1> (squares, axes)
        above = Add (variance, epsilon)
        deviation = Sqrt (above)
        standard = Div (centred, deviation)
        factor = Reshape (scale, shape)
        term = Reshape (B, shape)
        scaled = Mul (standard, factor)
        Y = Add (scaled, term)
    }}"""
    proto = onnx.parser.parse_function(f'<domain: "{extension.DOMAIN}", opset_import: ["": {traits.IR_OPSET}]> {text}')
    expand(node, ir.from_proto(proto))


def _nothing(node: ir.Node) -> None:
    (identity,) = expand(node, extension.function(op_key(node)))
    fold.remove_no_op(identity)


_LOWER = {"Linear": _linear, "Embedding": _embedding, **dict.fromkeys(extension.TRAINING_ONLY_OPS, _nothing)}


# --- what the file does not hold --------------------------------------------------------------------------------------


def _drop_unused_weights(graph: ir.Graph) -> None:
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def _strip_metadata(model: ir.Model) -> None:
    for holder in (model, *_holders(model.graph), *(h for g in model.graph.subgraphs() for h in _holders(g))):
        for key in [k for k in holder.metadata_props if k.startswith(_METADATA_PREFIX) and k != traits.BLOCKS]:
            del holder.metadata_props[key]


def _holders(graph: ir.Graph) -> list[ir.Graph | ir.Node | ir.Value]:
    values = [v for n in graph for v in n.outputs]
    return [graph, *graph, *values, *graph.inputs, *graph.initializers.values()]
