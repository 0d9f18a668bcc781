"""Losses that PyTorch does not decompose, or whose decomposition has other sizes."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import sizes, with_sizes
from dlbridge.frameworks.pytorch.graph.control import scan
from dlbridge.frameworks.pytorch.graph.reading import Op, reads

#: A finite logarithm for a probability of 0; and the bound that only losses made of it exceed.
_NEVER, _IMPOSSIBLE = -1e30, 1e29
#: Logarithms of probabilities are normalised when those of their sums, over all steps, come to less than this.
_NORMALISED = 1e-3

#: PyTorch's number of a reduction -> the ONNX op.
_REDUCTIONS = {1: "ReduceMean", 2: "ReduceSum"}


@reads("aten.multilabel_margin_loss")
def multilabel_margin_loss(op: Op, x: ir.Value, target: ir.Value, reduction: int = 1) -> ir.Value:
    """The mean over the classes of what each that is no label comes nearer than 1 to each that is one.

    The labels of a row are the numbers before the first negative one.
    """
    is_row, classes = len(sizes(x)) < 2, sizes(x)[-1] if sizes(x) else 1
    for _ in range(2 - len(sizes(x))):  # a row alone, or one number
        x, target = op.unsqueeze(x, [0]), op.unsqueeze(target, [0])
    target, count = op.cast(target, ir.DataType.INT64), op.number(classes, ir.DataType.INT64)
    places = op.arange(classes)
    end = op("ReduceMin", op("Where", op("Less", target, 0), places, count), [1], keepdims=1)
    is_given = op("Less", places, end)
    labels = op("Where", is_given, target, 0)
    equal = op("Equal", op("Unsqueeze", labels, [2]), places)
    named = op("And", equal, op("Unsqueeze", is_given, [2]))
    is_label = op("ReduceMax", op.cast(named, ir.DataType.INT32), [1], keepdims=1)
    of_labels = op("Unsqueeze", op("GatherElements", x, labels, axis=1), [2])
    margins = op("Relu", 1 - of_labels + op("Unsqueeze", x, [1]))
    counted = op("And", op("Unsqueeze", is_given, [2]), op("Equal", is_label, 0))
    total = op("ReduceSum", op("Where", counted, margins, 0), [1, 2], keepdims=0)
    loss = total / op.cast(count, x.dtype)
    if reduction in _REDUCTIONS:
        return op(_REDUCTIONS[reduction], loss, [0], keepdims=0)
    return op("Squeeze", loss, [0]) if is_row else loss


@reads("dlbridge.ctc_loss")
def ctc_loss(
    op: Op,
    x: ir.Value,
    targets: ir.Value,
    input_lengths: ir.Value,
    target_lengths: ir.Value,
    blank: int,
    zero_infinity: bool,
) -> ir.Value:
    """Connectionist temporal classification (Graves et al., 2006), by the forward recursion of its section 4.1.

    The label sequence is ``blank, l1, blank, l2, ..., blank``; ``alpha[s]`` is the logarithm of the probability of all
    paths that end at its place s. torch's gradient is the one with respect to what is before the log-softmax; to have
    it too, the logarithms of the sums are added, which are 0 where they are such.
    """
    time, batch, _ = sizes(x)
    count = sizes(targets)[1]
    places = 2 * count + 1
    targets = op("Max", targets, 0)
    blanks = targets * 0 + blank
    pairs = op("Concat", op("Unsqueeze", blanks, [2]), op("Unsqueeze", targets, [2]), axis=2)
    labels = with_sizes(op("Concat", op("Reshape", pairs, [0, -1]), _cut(op, blanks, 0, 1), axis=1), [batch, places])
    before = op("Concat", _cut(op, labels, 0, 2), _cut(op, labels, 0, -2), axis=1)
    may_skip = op("Not", op("Equal", labels, before))
    wide = op("Expand", op("Unsqueeze", labels, [0]), [time, 1, 1])
    steps = with_sizes(op("GatherElements", x, wide, axis=2), [time, batch, places])
    is_step = op("Less", op("Unsqueeze", op.arange(time), [1]), input_lengths)
    is_on = with_sizes(op("Unsqueeze", is_step, [2]), [time, batch, 1])
    never = op.number(_NEVER, x.dtype)
    nothing = op("Expand", never, [batch, 1])
    start = op("Expand", op("Where", op("Equal", op.arange(places), 0), 0, never), [batch, 1])

    def step(alpha: ir.Value, here: ir.Value, on: ir.Value) -> list[ir.Value]:
        from_last = op("Concat", nothing, _cut(op, alpha, 0, -1), axis=1)
        skipped = op("Concat", nothing, nothing, _cut(op, alpha, 0, -2), axis=1)
        total = _log_sum(op, [alpha, from_last, op("Where", may_skip, skipped, never)])
        return [op("Where", on, total + here, alpha)]

    (alpha,) = scan(op, [steps, is_on], [start], step)
    last = op("Unsqueeze", target_lengths * 2, [1])
    ends = op("GatherElements", alpha, last, axis=1)
    previous = op("GatherElements", alpha, op("Max", last - 1, 0), axis=1)
    previous = op("Where", op("Greater", last, 0), previous, never)
    loss = op("Squeeze", -_log_sum(op, [ends, previous]), [1])
    sums = op("Where", is_step, op("ReduceLogSumExp", x, [2], keepdims=0), 0)
    total = op("ReduceSum", sums, [0], keepdims=0)
    loss = loss + op("Where", op("Less", op("Abs", total), _NORMALISED), total, 0)
    return op("Where", op("Greater", loss, _IMPOSSIBLE), 0.0 if zero_infinity else float("inf"), loss)


def _cut(op: Op, x: ir.Value, start: int, end: int) -> ir.Value:
    return op("Slice", x, [start], [end], [1])


def _log_sum(op: Op, parts: list[ir.Value]) -> ir.Value:
    """log(sum(exp(x))) of these tensors."""
    largest = op("Max", *parts)
    return largest + op("Log", op("Sum", *(op("Exp", part - largest) for part in parts)))
