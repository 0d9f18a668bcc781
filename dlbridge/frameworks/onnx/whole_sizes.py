"""Files of PyTorch's exporters: resizing by a scale goes to a whole size, the ends of which are aligned.

``nn.Upsample(scale_factor=1.5, align_corners=True)`` makes 10 elements of 7, and so does the file. Where the standard's
evaluator has the last one at 10.5, PyTorch and onnxruntime have it at 10: a file that says the size leaves no doubt.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx_ir as ir

from dlbridge.passes.matching import match
from dlbridge.passes.rewriter import Rewriter, Site

#: The largest denominator of a scale that is said as a fraction.
_LARGEST_DENOMINATOR = 1000


def say_sizes(graph: ir.Graph) -> bool:
    """Give Resize nodes that align the ends the sizes in place of fractional scales; returns whether there were any."""
    rewriter = Rewriter(graph)
    for node in list(graph.all_nodes()):
        if match(node, "Resize", coordinate_transformation_mode="align_corners") is not None:
            _say_size(Site(node, rewriter))
    return rewriter.changed


def _say_size(site: Site) -> None:
    scales = site.known(2)
    if scales is None or scales.size == 0 or all(float(scale).is_integer() for scale in scales):
        return
    fractions = [Fraction(str(scale)).limit_denominator(_LARGEST_DENOMINATOR) for scale in scales]
    if any(np.float32(float(fraction)) != scale for fraction, scale in zip(fractions, scales, strict=True)):
        return
    x = site.operand(0)
    shape = site.op("Shape", "shape", [x])
    if site.has("axes"):
        shape = site.op("Gather", "resized", [shape, site.constant("axes", site.get("axes"))])
    times = site.constant("times", [fraction.numerator for fraction in fractions])
    parts = site.constant("parts", [fraction.denominator for fraction in fractions])
    sizes = site.op("Div", "sizes", [site.op("Mul", "scaled", [shape, times]), parts])
    site.set_inputs(x, site.input(1), None, sizes)
