"""Pads of convolutions as nodes of their own, where a framework's layer has no word for them, and back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.keys import layer_key
from dlbridge.ops.padding import same_padding
from dlbridge.passes.layout.axes import permuted
from dlbridge.passes.layout.transposes import perm_of
from dlbridge.passes.matching import Match, sole_producer
from dlbridge.passes.node_by_node import rewrite
from dlbridge.passes.rewriter import Rewriter, Site


def split_pads(graph: ir.Graph, domain: str) -> bool:
    """Put a Pad before each channels-last Conv whose pads are neither none nor 'same', in place.

    'Same' pads are those of TensorFlow: as many as give ``ceil(size / stride)`` outputs, the odd one at the end.

    Args:
        graph: Its shapes are inferred.
        domain: The domain of the channels-last nodes.

    Returns:
        Whether there was one.
    """
    rewriter = Rewriter(graph)
    for site in rewriter.sites():
        pads = site.get("pads")
        if layer_key(site.node) != "Conv" or site.node.domain != domain or not pads or not any(pads):
            continue
        if not _is_same(site, list(pads)):
            _split(site, list(pads))
    return rewriter.changed


def _split(site: Site, pads: list[int]) -> None:
    x, half = site.operand(0), len(pads) // 2
    assert x.shape is not None
    rewriter = site.rewriter
    amounts = rewriter.constant(f"{site.name}_pads", [0, *pads[:half], 0, 0, *pads[half:], 0])
    name = f"{traits.scope(site.node)}.pad".lstrip(".")
    padded = rewriter.insert(site.node, "Pad", "padded", [x, amounts], name=name).outputs[0]
    padded.name = rewriter.value_name(f"{site.name}_padded")
    padded.type, padded.shape = x.type, _grown(x.shape, pads)
    site.set_input(0, padded)
    site.take("pads")


def join_pads(graph: ir.Graph) -> bool:
    """Merge a Pad of zeros into the Conv that alone reads it, in place. A Transpose may stand between them.

    Only if the Conv then pads equally at both ends.

    Args:
        graph: Its shapes are inferred.

    Returns:
        Whether there was one.
    """
    return rewrite(graph, _join, "Conv")


def _join(conv: Site) -> None:
    if conv.has("auto_pad"):
        return
    turned = sole_producer(conv.operand(0), "Transpose")
    pad = sole_producer((turned or conv).operand(0), "Pad")
    zeros = None if pad is None else _zeros(pad)
    if pad is None or zeros is None:
        return
    perm = list(range(len(zeros))) if turned is None else perm_of(turned)
    half = len(perm) - 2
    own = conv.ints("pads") or [0] * 2 * half
    around = [zeros[axis] for axis in perm]
    ends = [(own[i] + a, own[half + i] + b) for i, (a, b) in enumerate(around[2:])]
    if any(around[0] + around[1]) or any(a != b for a, b in ends):
        return
    conv.set(pads=[a for a, _ in ends] + [b for _, b in ends])
    x = pad.operand(0)
    (turned or conv).node.replace_input_with(0, x)
    if turned is not None:
        turned.output.shape = permuted(x.shape, perm)
    conv.rewriter.erase(pad.node)


def _zeros(pad: Match) -> list[tuple[int, int]] | None:
    """(how many zeros before, how many after) of each axis; None where it is another padding, cuts, or is not known."""
    size, numbers = pad.rank(), _numbers(pad, 1)
    axes = None if size is None else np.arange(size)
    if pad.input(3) is not None:
        axes = _numbers(pad, 3)
    if pad.text("mode") != "constant" or size is None or numbers is None or axes is None or (numbers < 0).any():
        return None
    filling = _numbers(pad, 2)
    if pad.input(2) is not None and (filling is None or filling.any()):
        return None
    found = [(0, 0)] * size
    for place, axis in enumerate(axes):
        found[int(axis) % size] = int(numbers[place]), int(numbers[len(axes) + place])
    return found


def _numbers(pad: Match, slot: int) -> np.ndarray | None:
    value = pad.input(slot)
    return None if value is None or value.const_value is None else value.const_value.numpy()


def _grown(shape: ir.Shape, pads: list[int]) -> ir.Shape:
    half = len(pads) // 2
    more = [0, *(pads[i] + pads[half + i] for i in range(half)), 0]
    return ir.Shape([d + m if isinstance(d, int) else ir.SymbolicDim(None) for d, m in zip(shape, more, strict=True)])


def _is_same(conv: Site, pads: list[int]) -> bool:
    """Whether the pads are those of TensorFlow's 'same', as far as the sizes are known."""
    half = len(pads) // 2
    strides, dilations = conv.get("strides", [1] * half), conv.get("dilations", [1] * half)
    for axis in range(half):
        kernel, size = conv.static_size(1, 2 + axis), conv.static_size(0, 1 + axis)
        if kernel is None:
            return False
        total = same_padding(size, kernel, strides[axis], dilations[axis])
        if total is None or (pads[axis], pads[half + axis]) != (total // 2, total - total // 2):
            return False
    return True
