"""Writes masks of ``Attention`` as onnxruntime's kernel takes them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.passes.matching import match, origins
from dlbridge.passes.rewriter import Site

#: The most negative float32, with which models mask; and the next one.
_LOWEST = np.finfo(np.float32).min
_NEXT = np.nextafter(_LOWEST, np.float32(0))
#: Ops whose results are elements of their operands, or sums, products and minima of them.
_PASSED_ON = (
    "Add",
    "Cast",
    "Clip",
    "Concat",
    "Expand",
    "Gather",
    "GatherND",
    "Identity",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Reshape",
    "ScatterND",
    "Slice",
    "Squeeze",
    "Sub",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
)
_FLOATS = (None, ir.DataType.FLOAT, ir.DataType.DOUBLE)
#: (graph, mask) -> what stands for the mask in that graph.
Raised = dict[tuple[ir.Graph | ir.Function | None, ir.Value], ir.Value]


def stretch(site: Site) -> None:
    """Expand a mask of one row to one row per query, which onnxruntime 1.32 requires."""
    query, mask = site.operand(0), site.input(3)
    if mask is None or mask.shape is None or len(mask.shape) < 2 or mask.shape[-2] != 1:
        return
    if site.static_size(0, -2) == 1:
        return
    rows = site.op("Shape", "rows", [query], start=-2, end=-1)
    shape = site.op("Concat", "mask_shape", [rows, site.constant("one", [1])], axis=0)
    site.set_input(3, site.op("Expand", "mask", [mask, shape]))


def raise_lowest(site: Site, raised: Raised) -> None:
    """Replace the most negative float32 in a mask by the next one.

    onnxruntime 1.32 takes the most negative number for minus infinity: a query all of whose keys are masked with it
    gets zeros, where the standard and PyTorch give the mean of the values.

    Args:
        site: An ``Attention``.
        raised: The masks for which this has been done.
    """
    mask = site.input(3)
    if mask is None or mask.dtype != ir.DataType.FLOAT or not _may_hold_lowest(mask):
        return
    key = (site.node.graph, mask)
    if key not in raised:
        lowest = site.constant("lowest", _LOWEST, ir.DataType.FLOAT)
        least = site.constant("least", _NEXT, ir.DataType.FLOAT)
        made = site.op("Where", "mask", [site.op("Equal", "is_lowest", [mask, lowest]), least, mask])
        made.type, made.shape = mask.type, mask.shape
        raised[key] = made
    site.set_input(3, raised[key])


def _passes_on(node: ir.Node) -> bool:
    return node.outputs[0].dtype in _FLOATS and match(node, *_PASSED_ON) is not None


def _may_hold_lowest(mask: ir.Value) -> bool:
    """Whether a mask may be the most negative number somewhere: it comes from outside, or is made of that number."""
    for value in origins(mask, _passes_on):
        if value.dtype not in _FLOATS:
            continue
        tensor = None if value.is_graph_input() else ir.convenience.get_const_tensor(value)
        if tensor is not None:
            if (tensor.numpy() == _LOWEST).any():
                return True
            continue
        maker = value.producer()
        if maker is None or match(maker, "If", "Loop", "Scan") is not None:
            return True
    return False
