"""Upgrade rules for attributes that became inputs."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.passes.rewriter import Site
from dlbridge.passes.upgrade.registry import rule


@rule("Squeeze", "Unsqueeze", "ReduceSum", below=13)
@rule("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", below=18)
@rule("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare", below=18)
def _axes(site: Site) -> None:
    if axes := site.take("axes"):
        site.set_input(1, site.constant("axes", list(axes)))


@rule("Clip", below=11)
def _clip(site: Site) -> None:
    for slot, name in ((1, "min"), (2, "max")):
        if (bound := site.take(name)) is not None:
            site.set_input(slot, site.constant(name, bound, site.dtype()))


@rule("Pad", below=11)
def _pad(site: Site) -> None:
    pads, value = site.take("pads"), site.take("value", 0.0)
    site.set_input(1, site.constant("pads", list(pads)))
    if value:
        site.set_input(2, site.constant("value", value, site.dtype()))


@rule("Slice", below=10)
def _slice(site: Site) -> None:
    starts, ends, axes = site.take("starts"), site.take("ends"), site.take("axes")
    site.set_inputs(site.input(0), site.constant("starts", list(starts)), site.constant("ends", list(ends)))
    if axes is not None:
        site.set_input(3, site.constant("axes", list(axes)))


@rule("TopK", below=10)
def _topk(site: Site) -> None:
    site.set_input(1, site.constant("k", [site.take("k")]))


@rule("Split", below=13)
def _split(site: Site) -> None:
    if split := site.take("split"):
        site.set_input(1, site.constant("split", list(split)))


@rule("Split", below=18)
def _split_evenly(site: Site) -> None:
    if site.input(1) is None:
        site.set(num_outputs=len(site.node.outputs))


@rule("Dropout", below=12)
def _dropout_ratio(site: Site) -> None:
    site.set_input(1, site.constant("ratio", site.take("ratio", 0.5), ir.DataType.FLOAT))


@rule("DFT", below=20)
def _dft(site: Site) -> None:
    site.set_input(2, site.constant("axis", site.take("axis", 1)))
