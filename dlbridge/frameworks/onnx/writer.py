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
from dlbridge.frameworks.onnx.kernels import drop_missing, for_onnxruntime, usual_opset
from dlbridge.frameworks.onnx.source import OnnxSource
from dlbridge.model import Model
from dlbridge.ops import extension, traits
from dlbridge.ops.keys import is_op, op_key
from dlbridge.passes import Pass, Pipeline
from dlbridge.passes.downgrade import downgrade
from dlbridge.passes.inline import expand
from dlbridge.passes.no_ops import remove_no_op
from dlbridge.passes.pipeline import LAST
from dlbridge.passes.rewriter import Rewriter, Site
from dlbridge.passes.sizes import require_shapes
from dlbridge.passes.standard import EVERYTHING, INFER, on_graph
from dlbridge.passes.unused import drop_weights

#: Suffix of the name of a weight that was transposed at export.
TRANSPOSED = ".T"
_METADATA_PREFIX = "dlbridge."
#: Traits that a file has without being asked for them: the classes of blocks, what attention drops in training.
_KEPT = (traits.BLOCKS, traits.DROPOUT)


def write(model: Model, options: WriteOptions) -> OnnxSource:
    """Write a model in standard ops at an opset.

    Names stay: node names are dotted paths, initializers have their state-dict keys (a ``Linear`` that is not of rank 2
    keeps its weight transposed, as ``fc.weight.T``), inputs, outputs and symbolic dims are the model's, and the graph's
    metadata tells the classes of blocks; that of Attention, what it drops in training; that of the model, what its
    sizes must keep (``dlbridge.constraints``).

    Args:
        model: Left as it is.
        options: The opset is 13 to ``IR_OPSET``, the usual one when None; the metadata are dlbridge's traits, under
            ``dlbridge.`` keys of ``metadata_props``.

    Raises:
        DlbridgeError: When there is no such opset.
        ShapeError: When shapes or dtypes do not fit.
        UnsupportedOpError: When ops cannot be said at that opset; all are named, with the lowest opset that has them.
    """
    opset = usual_opset(model.graph) if options.opset is None else options.opset
    require_shapes(model.inputs)
    written = model.clone().ir
    written.graph.metadata_props.pop(traits.PORTS, None)  # the file itself has these names
    pipeline(opset)(written)
    written.ir_version = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    written.producer_name, written.producer_version = "dlbridge", dlbridge.__version__
    if not options.metadata:
        _strip_metadata(written)
    limits = [c.text for c in traits.constraints(model.graph)]
    if limits:  # of the model, where onnxruntime shows it
        written.metadata_props[traits.CONSTRAINTS] = json.dumps(limits)
    settings = model.graph.metadata_props.get(traits.GENERATION)
    if settings is not None:
        written.metadata_props[traits.GENERATION] = settings
    source = OnnxSource(model, written, opset)
    source.check()
    return source


def pipeline(opset: int = traits.EXPORT_OPSET) -> Pipeline:
    """What is done to a model before it is an ONNX file of an opset."""
    return Pipeline(
        LAST,
        [
            INFER,
            Pass("lower", lower, "Say the layers of the dlbridge domain in standard ops.", requires=INFER.provides),
            Pass(
                "for_onnxruntime",
                functools.partial(for_onnxruntime, opset=opset),
                "Say what onnxruntime has no kernel for in ops that it has.",
            ),
            Pass("drop_weights", on_graph(drop_weights), "Drop weights that nothing reads.", keeps=EVERYTHING),
            INFER.named("infer_lowered"),
            Pass(
                "downgrade",
                functools.partial(downgrade, opset=opset),
                f"Say it at opset {opset}.",
                requires=INFER.provides,
            ),
            Pass("drop_missing", on_graph(drop_missing), "Say no inputs that nodes do not have.", keeps=EVERYTHING),
        ],
    )


# --- the extension domain in standard ops ---------------------------------------------------------------------------


def lower(model: ir.Model) -> bool:
    """Say the layers of the ``dlbridge`` domain in standard ops, in place; whether there were any."""
    rewriter = Rewriter(model.graph)
    for node in [n for n in model.graph.all_nodes() if n.domain == extension.DOMAIN]:
        _LOWER.get(op_key(node), _lower_by_function)(Site(node, rewriter))
    for key in [k for k in model.functions if k[0] == extension.DOMAIN]:
        del model.functions[key]
    model.graph.opset_imports.pop(extension.DOMAIN, None)
    if model.functions:
        InlinePass()(model)
        rewriter.changed = True
    return rewriter.changed


def _linear(site: Site) -> None:
    x, weight, bias = site.operand(0), site.operand(1), site.input(2)
    if site.rank() == 2:
        site.rewriter.replace(site.node, "Gemm", site.operands, {"transB": 1})
        return
    transposed = _transposed(site, weight)
    if bias is None:
        site.rewriter.replace(site.node, "MatMul", [x, transposed])
        return
    product = site.op("MatMul", "product", [x, transposed])
    site.rewriter.replace(site.node, "Add", [product, bias])


def _transposed(site: Site, weight: ir.Value) -> ir.Value:
    """Transpose a weight: at export, unless other nodes read it untransposed (it would be stored twice)."""
    graph, tensor = weight.graph, weight.const_value
    only_here = all(is_op(use.node, "Linear") and use.idx == 1 for use in weight.uses())
    made = graph.initializers.get(f"{weight.name}{TRANSPOSED}") if graph is not None else None
    if made is not None:
        return made
    if tensor is None or graph is None or not weight.is_initializer() or weight.is_graph_input() or not only_here:
        return site.op("Transpose", "transposed", [weight], perm=[1, 0])
    name, flipped = f"{weight.name}{TRANSPOSED}", tensor.shape.numpy()[::-1]
    lazy = ir.LazyTensor(functools.partial(_transpose, tensor), dtype=tensor.dtype, shape=ir.Shape(flipped), name=name)
    made = site.rewriter.add_initializer(name, lazy)
    made.metadata_props.update(weight.metadata_props)
    return made


def _transpose(tensor: ir.TensorProtocol) -> ir.Tensor:
    return ir.Tensor(np.ascontiguousarray(tensor.numpy().T), dtype=tensor.dtype)


def _embedding(site: Site) -> None:
    site.rewriter.replace(site.node, "Gather", [site.operand(1), site.operand(0)], {"axis": 0})


def _lower_by_function(site: Site) -> None:
    expand(site.node, extension.function(op_key(site.node), site.node.overload), site.rewriter)


def _nothing(site: Site) -> None:
    (identity,) = expand(site.node, extension.function(op_key(site.node)), site.rewriter)
    remove_no_op(identity, site.rewriter)


_TRAINING = ("StopGradient", *extension.TRAINING_ONLY_OPS)
_LOWER = {"Linear": _linear, "Embedding": _embedding, **dict.fromkeys(_TRAINING, _nothing)}


# --- what the file does not hold --------------------------------------------------------------------------------------


def _strip_metadata(model: ir.Model) -> None:
    for holder in (model, *_holders(model.graph), *(h for g in model.graph.subgraphs() for h in _holders(g))):
        for key in [k for k in holder.metadata_props if k.startswith(_METADATA_PREFIX) and k not in _KEPT]:
            del holder.metadata_props[key]


def _holders(graph: ir.Graph) -> list[ir.Graph | ir.Node | ir.Value]:
    values = [v for n in graph for v in n.outputs]
    return [graph, *graph, *values, *graph.inputs, *graph.initializers.values()]
