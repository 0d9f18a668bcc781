"""Upgrade rules of the first opsets: named broadcasting, attributes that became inputs, notes on memory, batches."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.passes.rewriter import Site
from dlbridge.passes.upgrade.registry import CannotUpgradeError, rule

#: Ops that named the inputs whose memory they may use again.
_WITH_MEMORY_NOTES = (
    *("Abs", "Add", "BatchNormalization", "Ceil", "Clip", "Div", "Dropout", "Elu", "Exp", "Floor", "HardSigmoid"),
    *("InstanceNormalization", "LeakyRelu", "Log", "Max", "Mean", "Min", "Mul", "Neg", "PRelu", "Reciprocal", "Relu"),
    *("Reshape", "Selu", "Sigmoid", "Sqrt", "Sub", "Sum", "Tanh"),
)


@rule(*_WITH_MEMORY_NOTES, below=6)
def _memory_notes(site: Site) -> None:
    site.take("consumed_inputs")


@rule("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", below=7)
def _named_broadcasting(site: Site) -> None:
    """The second input stood at ``axis`` of the first, else at its end."""
    axis = site.take("axis")
    if not site.take("broadcast", 0) or axis is None:
        return
    first, second = site.input(0), site.input(1)
    if first is None or second is None or first.shape is None or second.shape is None:
        raise CannotUpgradeError("it broadcasts along an axis, and the rank of an input is not known")
    _append_axes(site, 1, len(first.shape) - axis % len(first.shape) - len(second.shape))


@rule("PRelu", below=7)
def _slope_by_channel(site: Site) -> None:
    x, slope = site.input(0), site.input(1)
    if x is None or slope is None or x.shape is None or slope.shape is None:
        raise CannotUpgradeError("the rank of an input is not known")
    if len(slope.shape) == 1 and slope.shape[0] != 1:
        _append_axes(site, 1, len(x.shape) - 2)


def _append_axes(site: Site, slot: int, count: int) -> None:
    """Give an input ``count`` more axes of size 1 at its end."""
    value = site.input(slot)
    if count <= 0 or value is None or value.shape is None:
        return
    rank = len(value.shape)
    axes = site.constant("axes", list(range(rank, rank + count)))
    site.set_input(slot, site.op("Unsqueeze", "aligned", [value, axes]))


@rule("Gemm", below=7)
def _gemm(site: Site) -> None:
    site.take("broadcast")


@rule("BatchNormalization", "Dropout", below=7)
def _test_mode(site: Site) -> None:
    site.take("is_test")


@rule("RNN", "GRU", "LSTM", below=7)
def _output_sequence(site: Site) -> None:
    site.take("output_sequence")


@rule("Cast", below=6)
def _cast_by_name(site: Site) -> None:
    name = site.get("to")
    if isinstance(name, str):
        site.set(to=int(ir.DataType[name]))


@rule("Reshape", below=5)
def _reshape(site: Site) -> None:
    if (shape := site.take("shape")) is not None:
        site.set_input(1, site.constant("shape", list(shape)))


@rule("Concat", below=4)
def _concat(site: Site) -> None:
    if site.get("axis") is None:
        site.set(axis=1)


@rule("Pad", below=2)
def _pad(site: Site) -> None:
    site.set(pads=list(site.take("paddings")))


@rule("Tile", below=6)
def _tile(site: Site) -> None:
    tiles, axis, x = site.known(1), site.known(2), site.input(0)
    if tiles is None or axis is None or x is None or x.shape is None:
        raise CannotUpgradeError("how often and where it repeats is not constant")
    repeats = np.ones(len(x.shape), np.int64)
    repeats[int(axis.reshape(-1)[0])] = int(tiles.reshape(-1)[0])
    site.set_inputs(x, site.constant("repeats", repeats.tolist()))


@rule("Upsample", below=7)
def _upsample(site: Site) -> None:
    site.set(scales=[1.0, 1.0, site.take("height_scale"), site.take("width_scale")])


@rule("Scan", below=9)
def _scan_in_batches(site: Site) -> None:
    """States and sequences had a batch axis in front. It becomes a scan over the batch around the scan over time."""
    node, sequences = site.node, site.get("num_scan_inputs")
    if site.input(0) is not None:
        raise CannotUpgradeError("the sequences of its batch have lengths of their own")
    given = node.inputs[1:]
    parts = [ir.Value(name=f"{node.name}_{i}", type=None if v is None else v.type) for i, v in enumerate(given)]
    over_time = {"body": site.take("body"), "num_scan_inputs": sequences}
    if directions := site.take("directions"):
        over_time["scan_input_directions"] = list(directions)
    inner = ir.node("Scan", parts, over_time, num_outputs=len(node.outputs), name=f"{node.name}_over_time")
    for i, output in enumerate(inner.outputs):
        output.name = f"{inner.name}_{i}"
    site.set_inputs(*given)
    site.set(body=ir.Graph(parts, inner.outputs, nodes=[inner], name=f"{node.name}_batch"), num_scan_inputs=len(given))
