"""Says what onnxruntime has no kernel for in ops that it has."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from dlbridge.frameworks.onnx import masks
from dlbridge.ops import extension, traits
from dlbridge.ops.keys import RANDOM_OPS, is_op
from dlbridge.passes.inline import expand
from dlbridge.passes.matching import match
from dlbridge.passes.rewriter import Rewriter, Site

#: Ops for whose form at opset 22 onnxruntime has no kernel, though it has one for the form before.
_OLDER_FORMS = frozenset({*RANDOM_OPS, "MaxRoiPool", "RoiAlign"})


def usual_opset(graph: ir.Graph) -> int:
    """The opset of a file for which none is asked: the newest up to ``EXPORT_OPSET`` at which onnxruntime runs it."""
    return 21 if any(is_op(node, *_OLDER_FORMS) for node in graph.all_nodes()) else traits.EXPORT_OPSET


def for_onnxruntime(model: ir.Model, opset: int) -> bool:
    """Replace the nodes that onnxruntime would not run, in place; whether there were any."""
    rewriter = Rewriter(model.graph)
    raised: masks.Raised = {}
    for node in list(model.graph.all_nodes()):
        site = Site(node, rewriter)
        if match(node, "BatchNormalization", training_mode=1) is not None:
            _expand_batch_statistics(site)
        elif match(node, "Resize", mode="cubic") is not None:
            _resize_last_axes(site)
        elif opset >= 22 and match(node, "GlobalLpPool") is not None:
            _sum_powers(site)
        elif opset >= 23 and match(node, "Attention") is not None:
            masks.raise_lowest(site, raised)
            masks.stretch(site)
    return rewriter.changed


def drop_missing(graph: ir.Graph) -> bool:
    """Leave out inputs that nodes do not have, behind the last that they have; whether there were any.

    onnxruntime 1.32 ends the process where a layer normalization without a bias says so by an empty name.
    """
    found = [node for node in graph.all_nodes() if node.inputs and node.inputs[-1] is None]
    for node in found:
        has = [index for index, value in enumerate(node.inputs) if value is not None]
        node.resize_inputs(has[-1] + 1 if has else 0)
    return bool(found)


def _expand_batch_statistics(site: Site) -> None:
    """Replace a batch norm by the statistics of the batch, for which onnxruntime has no kernel.

    They are computed, and a batch norm at inference takes them. What it takes is centred before, so that a mean far
    from zero costs no digits.
    """
    size = site.rank()
    if size is None or any(site.is_read(index) for index in range(1, len(site.node.outputs))):
        return
    text = f"""BatchStatistics (X, scale, B, mean, var) => (Y) {{
        axes = Constant <value_ints = {[0, *range(2, size)]}> ()
        centre = ReduceMean <keepdims = 1> (X, axes)
        centred = Sub (X, centre)
        rest = ReduceMean <keepdims = 0> (centred, axes)
        squares = Mul (centred, centred)
        variance = ReduceMean <keepdims = 0> (squares, axes)
        Y = BatchNormalization <epsilon = {site.number("epsilon")!r}> (centred, scale, B, rest, variance)
    }}"""
    _expand_as(text, site)


def _resize_last_axes(site: Site) -> None:
    """Let a cubic Resize of height and width, the channels behind them, work on the last two axes: onnxruntime makes
    others no smaller. Each channel is an image of its own, or onnxruntime would move the transposes past the Resize."""
    sizes = _sizes_of_two(site)
    if site.rank() != 4 or site.ints("axes") != [1, 2] or sizes is None:
        return
    first = site.op("Transpose", "first", [site.operand(0)], perm=[0, 3, 1, 2])
    channels = site.op("Shape", "channels", [first], start=1, end=2)
    size = site.op("Shape", "size", [first], start=2)
    single = site.op("Concat", "single", [site.constant("one", [-1, 1]), size], axis=0)
    whole = site.op("Concat", "whole", [site.constant("batch", [-1]), channels, sizes], axis=0)
    site.set_input(0, site.op("Reshape", "images", [first, single]))
    site.set(axes=[2, 3])
    site.then("Transpose", "last", [], perm=[0, 2, 3, 1])
    site.then("Reshape", "channelled", [whole])


def _sizes_of_two(site: Site) -> ir.Value | None:
    """The height and width that a Resize of the axes 1 and 2 makes; None where scales do not tell them exactly."""
    scales, shape = site.known(2), site.operand(0).shape
    if site.input(3) is not None or scales is None or len(scales) != 2 or shape is None:
        return site.input(3)
    sizes = [size * float(scale) for size, scale in zip(list(shape)[1:3], scales, strict=True) if isinstance(size, int)]
    if len(sizes) != 2 or not all(size.is_integer() for size in sizes):
        return None
    return site.constant("sizes", [int(size) for size in sizes])


def _sum_powers(site: Site) -> None:
    """Say a global pool of powers by sums, which onnxruntime has at all opsets."""
    size, power = site.rank(), site.integer("p")
    if size is None:
        return
    axes = site.constant("axes", list(range(2, size)))
    if power in (1, 2):
        site.rewriter.replace(site.node, f"ReduceL{power}", [site.operand(0), axes], {"keepdims": 1})
        return
    text = f"""PowerMean (X, axes) => (Y) {{
        size = Abs (X)
        power = Constant <value_float = {float(power)!r}> ()
        root = Constant <value_float = {1 / power!r}> ()
        powers = Pow (size, power)
        total = ReduceSum <keepdims = 1> (powers, axes)
        Y = Pow (total, root)
    }}"""
    site.set_inputs(site.operand(0), axes)
    _expand_as(text, site)


def _expand_as(text: str, site: Site) -> None:
    """Replace a node by the body of a function, in ONNX text, of its inputs and outputs."""
    proto = onnx.parser.parse_function(f'<domain: "{extension.DOMAIN}", opset_import: ["": {traits.IR_OPSET}]> {text}')
    expand(site.node, ir.from_proto(proto), site.rewriter)
