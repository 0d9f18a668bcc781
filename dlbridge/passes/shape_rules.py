"""Shapes of the ops for which onnx's inference knows no names: what a convolution makes of ``h`` is ``(h - 1)//2 + 1``.

A rule returns the sizes of the first output, with None for those that do not follow. Formulas are the standard's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_ir as ir

from dlbridge.ops import extension, special
from dlbridge.ops.keys import is_op
from dlbridge.passes.sizes import Integers, Size, product, shape_of

Sizes = list[Size | None]
Rule = Callable[[ir.Node, Integers], Sizes | None]
RULES: dict[tuple[str, str], Rule] = {}
_ONE = Size.of(1)


def rule(*op_types: str, domain: str = "") -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys([(domain, op_type) for op_type in op_types], function))
        return function

    return register


def _get(node: ir.Node, name: str, default=None):
    return node.attributes[name].value if name in node.attributes else default


def _input(node: ir.Node, slot: int) -> ir.Value | None:
    return node.inputs[slot] if slot < len(node.inputs) else None


@rule("Relu", "Sigmoid", "Tanh", "Gelu", "Swish", "Mish", "HardSwish", "HardSigmoid", "LeakyRelu", "Elu", "Selu", "Erf")
@rule("Celu", "Softplus", "Softsign", "Softmax", "LogSoftmax", "Clip", "Dropout", "Cast", "Exp", "Log", "Sqrt", "Neg")
@rule("Identity", "Reciprocal", "LayerNormalization", "RMSNormalization", "GroupNormalization", "LRN", "CumSum")
@rule("MeanVarianceNormalization", "InstanceNormalization", "BatchNormalization", "LpNormalization")
@rule("Abs", "Floor", "Ceil", "Round", "Not")
@rule(*extension.TRAINING_ONLY_OPS, domain=extension.DOMAIN)
def _same(node: ir.Node, known: Integers) -> Sizes | None:
    return shape_of(node.inputs[0])


@rule(
    "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mean", "Sum", "Mod", "Where", "Equal", "Less", "Greater", "PRelu"
)
@rule("LessOrEqual", "GreaterOrEqual", "And", "Or", "Xor")
@rule("FakeQuantize", *special.FUNCTIONS, domain=extension.DOMAIN)
def _broadcast(node: ir.Node, known: Integers) -> Sizes | None:
    return broadcast([shape_of(v) for v in node.inputs])


def broadcast(shapes: list[Sizes | None]) -> Sizes | None:
    """The shape that shapes are broadcast to."""
    if any(shape is None for shape in shapes):
        return None
    rank = max(len(shape) for shape in shapes)
    result: Sizes = []
    for sizes in zip(*([_ONE] * (rank - len(shape)) + shape for shape in shapes), strict=True):
        wide = {size for size in sizes if size != _ONE}
        numbers = {size for size in wide if size is not None and size.number is not None}
        if numbers:  # a name can be that number or 1 alone
            result.append(next(iter(numbers)))
        else:
            result.append(_ONE if not wide else wide.pop() if len(wide) == 1 else None)
    return result


@rule("Linear", domain=extension.DOMAIN)
def _linear(node: ir.Node, known: Integers) -> Sizes | None:
    x, w = shape_of(node.inputs[0]), shape_of(node.inputs[1])
    return None if x is None or w is None else [*x[:-1], w[0]]


@rule("Embedding", domain=extension.DOMAIN)
def _embedding(node: ir.Node, known: Integers) -> Sizes | None:
    indices, w = shape_of(node.inputs[0]), shape_of(node.inputs[1])
    return None if indices is None or w is None else [*indices, w[1]]


@rule("Reshape")
def _reshape(node: ir.Node, known: Integers) -> Sizes | None:
    shape, target = shape_of(node.inputs[0]), known.get(node.inputs[1])
    if target is None or target.ndim != 1:
        return None
    result: Sizes = list(target)
    unknown = [axis for axis, size in enumerate(result) if size is not None and size.number == -1]
    for axis, size in enumerate(result):
        if size is not None and size.number == 0 and not _get(node, "allowzero", 0):
            result[axis] = shape[axis] if shape is not None and axis < len(shape) else None
    if unknown:
        (axis,) = unknown
        whole = product(shape) if shape is not None else None
        rest = product(result[:axis] + result[axis + 1 :])
        result[axis] = whole.over(rest) if whole is not None and rest is not None and rest.terms else None
    return result


@rule("Expand")
def _expand(node: ir.Node, known: Integers) -> Sizes | None:
    target = known.get(node.inputs[1])
    return broadcast([shape_of(node.inputs[0]), list(target)]) if target is not None else None


@rule("ConstantOfShape")
def _filled(node: ir.Node, known: Integers) -> Sizes | None:
    target = known.get(node.inputs[0])
    return list(target) if target is not None else None


@rule("Range")
def _range(node: ir.Node, known: Integers) -> Sizes | None:
    start, limit = known.get(node.inputs[0]), known.get(node.inputs[1])
    if start is None or limit is None or known.numbers(node.inputs[2]) != [1]:
        return None
    start, limit = start.reshape(-1)[0], limit.reshape(-1)[0]
    return None if start is None or limit is None else [limit - start]


@rule("Concat")
def _concat(node: ir.Node, known: Integers) -> Sizes | None:
    shapes = [shape_of(v) for v in node.inputs]
    if any(shape is None for shape in shapes):
        return None
    axis = _get(node, "axis") % len(shapes[0])
    result: Sizes = []
    for index, sizes in enumerate(zip(*shapes, strict=True)):
        if index == axis:
            total = Size.of(0)
            for size in sizes:
                total = None if total is None or size is None else total + size
            result.append(total)
        else:  # all are the same: a number tells most
            told = sorted((s for s in sizes if s is not None), key=lambda s: (s.number is None, str(s)))
            result.append(told[0] if told else None)
    return result


@rule("Split")
def _split(node: ir.Node, known: Integers) -> Sizes | None:
    shape = shape_of(node.inputs[0])
    if shape is None or len({str(v.shape) for v in node.outputs}) > 1:
        return None
    axis = _get(node, "axis", 0) % len(shape)
    lengths = known.numbers(_input(node, 1))
    if lengths is not None:
        return [*shape[:axis], Size.of(lengths[0]), *shape[axis + 1 :]] if len(set(lengths)) == 1 else None
    part = shape[axis].over(Size.of(len(node.outputs))) if shape[axis] is not None else None
    return [*shape[:axis], part, *shape[axis + 1 :]]


@rule("Slice")
def _slice(node: ir.Node, known: Integers) -> Sizes | None:
    shape = shape_of(node.inputs[0])
    if shape is None:
        return None
    starts, ends = known.get(node.inputs[1]), known.get(node.inputs[2])
    axes = known.numbers(_input(node, 3)) if _input(node, 3) is not None else list(range(len(shape)))
    if axes is None or starts is None or ends is None:
        return [None] * len(shape) if axes is None else [None if a in axes else s for a, s in enumerate(shape)]
    steps = known.numbers(_input(node, 4)) if _input(node, 4) is not None else [1] * len(starts)
    result = list(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps or [None] * len(starts), strict=False):
        result[axis] = _sliced(shape[axis], start, end, step)
    return result


def _sliced(size: Size | None, start: Size | None, end: Size | None, step: int | None) -> Size | None:
    if size is None or start is None or end is None or step is None:
        return None
    numbers = (size.number, start.number, end.number)
    if None not in numbers:
        return Size.of(len(range(*slice(numbers[1], numbers[2], step).indices(numbers[0]))))
    if start.number is None or step < 1:
        return None
    if end.number is not None and end.number > 2**30:
        end = size
    elif end.number is not None and end.number < 0:
        end = size + end
    elif end != size and not (size - end).positive:
        return None  # the end may lie beyond
    first = start if start.number >= 0 else size + start
    length = end - first
    if length.number is not None and length.number < 0:
        return Size.of(0)  # it ends before it starts
    return length if step == 1 else (length - _ONE) // Size.of(step) + _ONE


@rule("Tile")
def _tile(node: ir.Node, known: Integers) -> Sizes | None:
    shape, times = shape_of(node.inputs[0]), known.get(node.inputs[1])
    if shape is None or times is None:
        return None
    return [None if s is None or t is None else s * t for s, t in zip(shape, times, strict=True)]


@rule("Pad")
def _pad(node: ir.Node, known: Integers) -> Sizes | None:
    shape, pads = shape_of(node.inputs[0]), known.get(node.inputs[1])
    if shape is None or pads is None:
        return None
    axes = known.numbers(_input(node, 3)) if _input(node, 3) is not None else list(range(len(shape)))
    if axes is None:
        return None
    result = list(shape)
    for index, axis in enumerate(axes):
        ends = (shape[axis], pads[index], pads[index + len(axes)])
        result[axis] = None if None in ends else ends[0] + ends[1] + ends[2]
    return result


@rule("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum")
@rule("ReduceLogSumExp", "ReduceSumSquare")
def _reduced(node: ir.Node, known: Integers) -> Sizes | None:
    """The rank, which does not ask which axes they are, but how many."""
    shape, axes = shape_of(node.inputs[0]), _input(node, 1)
    if shape is None or axes is None or known.numbers(axes) is not None or axes.shape is None:
        return None
    count = axes.shape[0]
    if _get(node, "keepdims", 1):
        return [None] * len(shape)
    return [None] * (len(shape) - count) if isinstance(count, int) and count else None


@rule("Flatten")
def _flatten(node: ir.Node, known: Integers) -> Sizes | None:
    shape = shape_of(node.inputs[0])
    if shape is None:
        return None
    axis = _get(node, "axis", 1)
    return [product(shape[:axis]), product(shape[axis:])]


@rule("Resize")
def _resize(node: ir.Node, known: Integers) -> Sizes | None:
    shape, target = shape_of(node.inputs[0]), known.get(_input(node, 3))
    if shape is None or "keep_aspect_ratio_policy" in node.attributes:
        return None
    axes = _get(node, "axes") or range(len(shape))
    result = list(shape)
    scales = _input(node, 2)
    for index, axis in enumerate(axes):
        if target is not None:
            result[axis] = target[index]
        elif scales is not None and scales.const_value is not None:
            factor = float(scales.const_value.numpy()[index])
            result[axis] = _scaled(shape[axis], factor)
        else:
            result[axis] = None
    return result


def _scaled(size: Size | None, factor: float) -> Size | None:
    if size is None:
        return None
    if size.number is not None:
        return Size.of(math.floor(size.number * factor))
    if factor.is_integer():
        return size * Size.of(int(factor))
    inverse = 1 / factor
    return size // Size.of(int(inverse)) if inverse.is_integer() else None


@rule("Conv", "MaxPool", "AveragePool", "LpPool")
def _windows(node: ir.Node, known: Integers) -> Sizes | None:
    """floor((size + pads - (dilation * (kernel - 1) + 1)) / stride) + 1; ceil with ceil_mode."""
    shape, w = shape_of(node.inputs[0]), shape_of(_input(node, 1)) if is_op(node, "Conv") else None
    kernel = _get(node, "kernel_shape") or ([size.number for size in w[2:]] if w is not None else None)
    if shape is None or kernel is None or None in kernel:
        return None
    rank = len(kernel)
    strides, dilations = (_get(node, name) or [1] * rank for name in ("strides", "dilations"))
    pads, auto = _get(node, "pads") or [0] * (2 * rank), _get(node, "auto_pad", "NOTSET")
    result = [shape[0], w[0] if w is not None else shape[1]]
    for axis, size in enumerate(shape[2:]):
        reach, stride = dilations[axis] * (kernel[axis] - 1) + 1, Size.of(strides[axis])
        if size is None:
            result.append(None)
        elif auto.startswith("SAME"):
            result.append((size - _ONE) // stride + _ONE)
        else:
            ends = 0 if auto == "VALID" else pads[axis] + pads[axis + rank]
            room = size + Size.of(ends - reach)
            if _get(node, "ceil_mode", 0) and strides[axis] > 1:
                result.append(None)  # whether the last window counts depends on the size
            else:
                result.append(room // stride + _ONE)
    return result


@rule("ConvTranspose")
def _conv_transpose(node: ir.Node, known: Integers) -> Sizes | None:
    """stride * (size - 1) + output_padding + dilation * (kernel - 1) + 1 - pads; stride * size with auto_pad SAME."""
    shape, w = shape_of(node.inputs[0]), shape_of(node.inputs[1])
    if shape is None or w is None or w[1] is None or _get(node, "output_shape"):
        return None
    kernel = _get(node, "kernel_shape") or [size.number for size in w[2:]]
    rank = len(kernel)
    strides, dilations = (_get(node, name) or [1] * rank for name in ("strides", "dilations"))
    pads, more = _get(node, "pads") or [0] * (2 * rank), _get(node, "output_padding") or [0] * rank
    same = _get(node, "auto_pad", "NOTSET").startswith("SAME")
    result = [shape[0], w[1] * Size.of(_get(node, "group", 1))]
    for axis, size in enumerate(shape[2:]):
        reach = dilations[axis] * (kernel[axis] - 1) + 1 + more[axis] - pads[axis] - pads[axis + rank]
        stride = Size.of(strides[axis])
        wide = None if size is None else stride * size if same else stride * (size - _ONE) + Size.of(reach)
        result.append(wide)
    return result


@rule("Attention")
def _attention(node: ir.Node, known: Integers) -> Sizes | None:
    q, v = shape_of(node.inputs[0]), shape_of(node.inputs[2])
    if q is None or v is None or len(q) != 4 or len(v) != 4:
        return None
    return [*q[:3], v[3]]


@rule("STFT")
def _stft(node: ir.Node, known: Integers) -> Sizes | None:
    """(batch, (length - frame) // step + 1, frame // 2 + 1 or frame, 2)."""
    signal, step = shape_of(node.inputs[0]), known.numbers(node.inputs[1])
    length, window = known.numbers(_input(node, 3)), shape_of(_input(node, 2))
    frame = length[0] if length else window[0].number if window and window[0] is not None else None
    if signal is None or frame is None:
        return None
    count = None
    if step and signal[1] is not None:
        count = (signal[1] - Size.of(frame)) // Size.of(step[0]) + _ONE
    return [signal[0], count, Size.of(frame // 2 + 1 if _get(node, "onesided", 1) else frame), Size.of(2)]
