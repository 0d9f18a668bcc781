"""Shapes of the ops for which onnx's inference knows no names: what a convolution makes of ``h`` is ``(h - 1)//2 + 1``.

A rule returns the sizes of the first output, with None for those that do not follow. Formulas are the standard's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from dlbridge.ops import extension
from dlbridge.ops.elementwise import BROADCASTING_OPS, UNARY_OPS
from dlbridge.ops.strings import ML
from dlbridge.passes.integers import Integers
from dlbridge.passes.matching import Match
from dlbridge.passes.sizes import Size, Sizes, product, shape_of

Rule = Callable[[Match, Integers], Sizes | None]
RULES: dict[tuple[str, str], Rule] = {}
#: An end beyond this means "to the end of the axis".
_BEYOND = 2**30
_ONE = Size.of(1)


def rule(*op_types: str, domain: str = "") -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys([(domain, op_type) for op_type in op_types], function))
        return function

    return register


@rule(*UNARY_OPS, "Softmax", "LogSoftmax", "CumSum", "LRN", "LayerNormalization", "RMSNormalization")
@rule(
    "GroupNormalization", "MeanVarianceNormalization", "InstanceNormalization", "BatchNormalization", "LpNormalization"
)
@rule("LabelEncoder", domain=ML)
@rule("RotateHalves", *extension.TRAINING_ONLY_OPS, domain=extension.DOMAIN)
def _same(node: Match, known: Integers) -> Sizes | None:
    return shape_of(node.input(0))


@rule("StringNormalizer")
def _normalized(node: Match, known: Integers) -> Sizes | None:
    """Strings that are in no list of those to leave out stay."""
    return None if node.has("stopwords") else shape_of(node.input(0))


@rule(*BROADCASTING_OPS)
@rule(*extension.elementwise_ops(), domain=extension.DOMAIN)
def _broadcast(node: Match, known: Integers) -> Sizes | None:
    return broadcast([shape_of(v) for v in node.node.inputs])


def broadcast(shapes: Sequence[Sizes | None]) -> Sizes | None:
    """The shape that shapes are broadcast to."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return None
    rank = max(len(shape) for shape in known)
    wide: list[Sizes] = [[*[_ONE] * (rank - len(shape)), *shape] for shape in known]
    return [_broadcast_size(sizes) for sizes in zip(*wide, strict=True)]


def _broadcast_size(sizes: Sequence[Size | None]) -> Size | None:
    """The size that sizes along one axis are broadcast to."""
    wide = {size for size in sizes if size != _ONE}
    if not wide:
        return _ONE
    for size in wide:
        if size is not None and size.number is not None:  # a name can be that number or 1 alone
            return size
    return wide.pop() if len(wide) == 1 else None


@rule("Linear", domain=extension.DOMAIN)
def _linear(node: Match, known: Integers) -> Sizes | None:
    x, w = shape_of(node.input(0)), shape_of(node.input(1))
    return None if x is None or w is None else [*x[:-1], w[0]]


@rule("Embedding", domain=extension.DOMAIN)
def _embedding(node: Match, known: Integers) -> Sizes | None:
    indices, w = shape_of(node.input(0)), shape_of(node.input(1))
    return None if indices is None or w is None else [*indices, w[1]]


@rule("CompactSteps", "SpreadSteps", domain=extension.DOMAIN)
def _steps(node: Match, known: Integers) -> Sizes | None:
    return shape_of(node.input(0))


@rule("CausalMask", domain=extension.DOMAIN)
def _causal_mask(node: Match, known: Integers) -> Sizes | None:
    x, padding = shape_of(node.input(0)), shape_of(node.input(1))
    queries = None if x is None else x[node.integer("axis")]
    return [_ONE, _ONE, queries, queries] if padding is None else [padding[0], _ONE, queries, padding[1]]


@rule("Reshape")
def _reshape(node: Match, known: Integers) -> Sizes | None:
    shape, target = shape_of(node.input(0)), known.get(node.input(1))
    if target is None or target.ndim != 1:
        return None
    result: Sizes = list(target)
    unknown = [axis for axis, size in enumerate(result) if size is not None and size.number == -1]
    for axis, size in enumerate(result):
        if size is not None and size.number == 0 and not node.integer("allowzero"):
            result[axis] = shape[axis] if shape is not None and axis < len(shape) else None
    if unknown:
        (axis,) = unknown
        result[axis] = _what_is_left(shape, result[:axis] + result[axis + 1 :])
    return result


def _what_is_left(shape: Sizes | None, others: Sizes) -> Size | None:
    """The size that a -1 stands for."""
    whole = None if shape is None else product(shape)
    rest = product(others)
    return whole.over(rest) if whole is not None and rest is not None and rest.terms else None


@rule("Expand")
def _expand(node: Match, known: Integers) -> Sizes | None:
    target = known.get(node.input(1))
    return broadcast([shape_of(node.input(0)), list(target)]) if target is not None else None


@rule("ConstantOfShape")
def _filled(node: Match, known: Integers) -> Sizes | None:
    target = known.get(node.input(0))
    return list(target) if target is not None else None


@rule("Range")
def _range(node: Match, known: Integers) -> Sizes | None:
    start, limit = known.get(node.input(0)), known.get(node.input(1))
    if start is None or limit is None or known.numbers(node.input(2)) != [1]:
        return None
    first, end = start.reshape(-1)[0], limit.reshape(-1)[0]
    return None if first is None or end is None else [end - first]


@rule("Concat")
def _concat(node: Match, known: Integers) -> Sizes | None:
    given = [shape_of(v) for v in node.node.inputs]
    shapes = [shape for shape in given if shape is not None]
    if len(shapes) < len(given):
        return None
    axis = node.integer("axis") % len(shapes[0])
    columns = enumerate(zip(*shapes, strict=True))
    return [_total(sizes) if index == axis else _most_told(sizes) for index, sizes in columns]


def _total(sizes: Sequence[Size | None]) -> Size | None:
    total = Size.of(0)
    for size in sizes:
        if size is None:
            return None
        total = total + size
    return total


def _most_told(sizes: Sequence[Size | None]) -> Size | None:
    """Of sizes that are the same, a number, which tells most."""
    told = sorted((s for s in sizes if s is not None), key=lambda s: (s.number is None, str(s)))
    return told[0] if told else None


@rule("Split")
def _split(node: Match, known: Integers) -> Sizes | None:
    shape, outputs = shape_of(node.input(0)), node.node.outputs
    if shape is None or len({str(v.shape) for v in outputs}) > 1:
        return None
    axis = node.integer("axis") % len(shape)
    lengths, whole = known.numbers(node.input(1)), shape[axis]
    if lengths is None:
        part = None if whole is None else whole.over(Size.of(len(outputs)))
    elif len(set(lengths)) == 1:
        part = Size.of(lengths[0])
    else:
        return None
    return [*shape[:axis], part, *shape[axis + 1 :]]


@rule("Slice")
def _slice(node: Match, known: Integers) -> Sizes | None:
    shape = shape_of(node.input(0))
    if shape is None:
        return None
    starts, ends, axes = known.get(node.input(1)), known.get(node.input(2)), _axes(node, 3, len(shape), known)
    if axes is None:
        return [None] * len(shape)
    if starts is None or ends is None:
        return [None if axis in axes else size for axis, size in enumerate(shape)]
    steps: Sequence[int | None] = [1] * len(starts)
    if node.input(4) is not None:
        steps = known.numbers(node.input(4)) or [None] * len(starts)
    result = list(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=False):
        result[axis] = _sliced(shape[axis], start, end, step)
    return result


def _axes(node: Match, slot: int, rank: int, known: Integers) -> list[int] | None:
    """The axes that an input names, all where it is left out; None where they are not known."""
    return list(range(rank)) if node.input(slot) is None else known.numbers(node.input(slot))


def _sliced(size: Size | None, start: Size | None, end: Size | None, step: int | None) -> Size | None:
    """How many elements a slice of an axis has; None where that is not known."""
    if size is None or start is None or end is None or step is None:
        return None
    if size.number is not None and start.number is not None and end.number is not None:
        return Size.of(len(range(*slice(start.number, end.number, step).indices(size.number))))
    if start.number is None or step < 1:
        return None
    last = _end_within(size, end)
    if last is None:
        return None
    length = last - (start if start.number >= 0 else size + start)
    if length.number is not None and length.number < 0:
        return Size.of(0)  # it ends before it starts
    return length if step == 1 else (length - _ONE) // Size.of(step) + _ONE


def _end_within(size: Size, end: Size) -> Size | None:
    """The end of a slice, counted from the front; None where it may lie beyond the axis."""
    if end.number is not None and end.number > _BEYOND:
        return size
    if end.number is not None and end.number < 0:
        return size + end
    return end if end == size or (size - end).positive else None


@rule("Tile")
def _tile(node: Match, known: Integers) -> Sizes | None:
    shape, times = shape_of(node.input(0)), known.get(node.input(1))
    if shape is None or times is None:
        return None
    return [None if s is None or t is None else s * t for s, t in zip(shape, times, strict=True)]


@rule("Pad")
def _pad(node: Match, known: Integers) -> Sizes | None:
    shape, pads = shape_of(node.input(0)), known.get(node.input(1))
    axes = None if shape is None else _axes(node, 3, len(shape), known)
    if shape is None or pads is None or axes is None:
        return None
    result = list(shape)
    for index, axis in enumerate(axes):
        result[axis] = _total((shape[axis], pads[index], pads[index + len(axes)]))
    return result


@rule("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum")
@rule("ReduceLogSumExp", "ReduceSumSquare")
def _reduced(node: Match, known: Integers) -> Sizes | None:
    """The rank, which does not ask which axes they are, but how many."""
    shape, axes = shape_of(node.input(0)), node.input(1)
    if shape is None or axes is None or known.numbers(axes) is not None or axes.shape is None:
        return None
    count = axes.shape[0]
    if node.integer("keepdims"):
        return [None] * len(shape)
    return [None] * (len(shape) - count) if isinstance(count, int) and count else None


@rule("Flatten")
def _flatten(node: Match, known: Integers) -> Sizes | None:
    shape = shape_of(node.input(0))
    if shape is None:
        return None
    axis = node.integer("axis")
    return [product(shape[:axis]), product(shape[axis:])]


@rule("Resize")
def _resize(node: Match, known: Integers) -> Sizes | None:
    shape, target, scales = shape_of(node.input(0)), known.get(node.input(3)), node.input(2)
    if shape is None or node.has("keep_aspect_ratio_policy"):
        return None
    factors = None if scales is None or scales.const_value is None else scales.const_value.numpy()
    result = list(shape)
    for index, axis in enumerate(node.ints("axes") or range(len(shape))):
        if target is not None:
            result[axis] = target[index]
        elif factors is not None:
            result[axis] = _scaled(shape[axis], float(factors[index]))
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


def _kernel(node: Match, weight: Sizes | None) -> list[int] | None:
    """The sizes of a kernel: stated, or those of the weight."""
    stated = node.ints("kernel_shape")
    if stated or weight is None:
        return stated or None
    numbers = [size.number for size in weight[2:] if size is not None]
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(weight) - 2 else None


@rule("Conv", "MaxPool", "AveragePool", "LpPool")
def _windows(node: Match, known: Integers) -> Sizes | None:
    """floor((size + pads - (dilation * (kernel - 1) + 1)) / stride) + 1; ceil with ceil_mode."""
    shape = shape_of(node.input(0))
    weight = shape_of(node.input(1)) if node.is_op("Conv") else None
    kernel = _kernel(node, weight)
    if shape is None or kernel is None:
        return None
    rank = len(kernel)
    strides, dilations = (node.ints(name) or [1] * rank for name in ("strides", "dilations"))
    pads = node.ints("pads") or [0] * (2 * rank)
    auto, ceil = node.text("auto_pad"), bool(node.get("ceil_mode", 0))
    result = [shape[0], shape[1] if weight is None else weight[0]]
    for axis, size in enumerate(shape[2:]):
        if size is None:
            result.append(None)
            continue
        reach, stride = dilations[axis] * (kernel[axis] - 1) + 1, Size.of(strides[axis])
        if auto.startswith("SAME"):
            result.append((size - _ONE) // stride + _ONE)
        elif ceil and strides[axis] > 1:
            result.append(None)  # whether the last window counts depends on the size
        else:
            ends = 0 if auto == "VALID" else pads[axis] + pads[axis + rank]
            result.append((size + Size.of(ends - reach)) // stride + _ONE)
    return result


@rule("ConvTranspose")
def _conv_transpose(node: Match, known: Integers) -> Sizes | None:
    """stride * (size - 1) + output_padding + dilation * (kernel - 1) + 1 - pads; stride * size with auto_pad SAME."""
    shape, weight = shape_of(node.input(0)), shape_of(node.input(1))
    kernel = _kernel(node, weight)
    if shape is None or weight is None or kernel is None or weight[1] is None or node.ints("output_shape"):
        return None
    rank = len(kernel)
    strides, dilations = (node.ints(name) or [1] * rank for name in ("strides", "dilations"))
    pads, more = node.ints("pads") or [0] * (2 * rank), node.ints("output_padding") or [0] * rank
    same = node.text("auto_pad").startswith("SAME")
    result = [shape[0], weight[1] * Size.of(node.integer("group"))]
    for axis, size in enumerate(shape[2:]):
        reach = dilations[axis] * (kernel[axis] - 1) + 1 + more[axis] - pads[axis] - pads[axis + rank]
        stride = Size.of(strides[axis])
        if size is None:
            result.append(None)
        elif same:
            result.append(stride * size)
        else:
            result.append(stride * (size - _ONE) + Size.of(reach))
    return result


@rule("Attention")
def _attention(node: Match, known: Integers) -> Sizes | None:
    q, v = shape_of(node.input(0)), shape_of(node.input(2))
    if q is None or v is None or len(q) != 4 or len(v) != 4:
        return None
    return [*q[:3], v[3]]


@rule("STFT")
def _stft(node: Match, known: Integers) -> Sizes | None:
    """(batch, (length - frame) // step + 1, frame // 2 + 1 or frame, 2)."""
    signal, step, frame = shape_of(node.input(0)), known.numbers(node.input(1)), _frame(node, known)
    if signal is None or frame is None:
        return None
    count = None
    if step and signal[1] is not None:
        count = (signal[1] - Size.of(frame)) // Size.of(step[0]) + _ONE
    bins = frame // 2 + 1 if node.integer("onesided") else frame
    return [signal[0], count, Size.of(bins), Size.of(2)]


def _frame(node: Match, known: Integers) -> int | None:
    """The length of a frame: stated, or that of the window."""
    length, window = known.numbers(node.input(3)), shape_of(node.input(2))
    if length:
        return length[0]
    return window[0].number if window and window[0] is not None else None
