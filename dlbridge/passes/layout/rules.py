"""One rule an op: when the transpose of an input can go behind the op, and how.

Each rule is a law ``op(transpose(x)) == transpose(op'(x))``; the property test runs them all on random graphs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dlbridge.ops import extension
from dlbridge.ops.keys import is_op
from dlbridge.passes.layout.axes import inverse, permuted, to_first, without
from dlbridge.passes.layout.reshapes import flatten_rule, reshape_rule
from dlbridge.passes.layout.transposes import Move, Rule, is_transpose, move_after, permutation, transpose

#: Elementwise ops of one tensor (further inputs are numbers), whatever the order of its axes.
UNARY_OPS = {
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Clip", "Cos"),
    *("Cosh", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf"),
    *("IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid"),
    *("Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu"),
}

#: Elementwise ops of several tensors that broadcast.
BROADCASTING_OPS = {
    *("Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual"),
    *("Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "PRelu", "Sub", "Sum", "Where", "Xor"),
}

REDUCTIONS = {
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
    *("ReduceSum", "ReduceSumSquare"),
}

#: Ops with an ``axis`` whose output has the shape of the input, or differs along that axis alone.
AXIS_OPS = {"Softmax", "LogSoftmax", "Hardmax", "Concat", "Split"}

_RESHAPES = {("", op) for op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze")}


def _inner(value: ir.Value | None) -> ir.Value:
    """What a Transpose reads, from what it makes."""
    producer = value.producer() if value is not None else None
    assert producer is not None and producer.inputs[0] is not None
    return producer.inputs[0]


def _made(node: ir.Node) -> list[ir.Value]:
    return [v for v in node.outputs if v.uses() or v.is_graph_output()]


def _unary(node: ir.Node, perm: list[int]) -> Move | None:
    if len(_made(node)) != 1 or _made(node)[0] is not node.outputs[0] or not _only_input(node, 0):
        return None

    def move() -> None:
        node.replace_input_with(0, _inner(node.inputs[0]))
        move_after(node, node.outputs[0], perm, f"{node.name}_transposed")

    return move


def _dropout(node: ir.Node, perm: list[int]) -> Move | None:
    """Elements that share a decision still do where their axes are moved."""
    after = _unary(node, perm)
    moved = sorted(perm[axis] for axis in extension.shared_axes(node))

    def move() -> None:
        if moved:
            node.attributes["axes"] = ir.AttrInt64s("axes", moved)
        after()  # type: ignore[misc]

    return move if after is not None else None


def _only_input(node: ir.Node, index: int) -> bool:
    """Whether the transposed value is that input and no other."""
    value = node.inputs[index]
    return is_transpose(value.producer() if value is not None else None) and sum(v is value for v in node.inputs) == 1


def _broadcasting(node: ir.Node, perm: list[int]) -> Move | None:
    """The other inputs are the same transpose, hold one number, or are constants and weights that can be permuted."""
    y = node.outputs[0]
    if y.shape is None or len(y.shape) != len(perm):
        return None
    if not all(
        _same_transpose(v, perm)
        or _is_number(v)
        or _permutable(v, len(perm))
        or _permuted_already(v, perm)
        or _thin(v, inverse(perm))
        for v in node.inputs
    ):
        return None

    def move() -> None:
        for index, value in enumerate(node.inputs):
            if _same_transpose(value, perm):
                node.replace_input_with(index, _inner(value))
            elif (there := _permuted_already(value, perm)) is not None:
                node.replace_input_with(index, there)
            elif (shape := _thin(value, inverse(perm))) is not None:
                node.replace_input_with(index, _reshaped(node, value, shape))  # type: ignore[arg-type]
            elif not _is_number(value):
                node.replace_input_with(index, _permute_weight(node, value, inverse(perm)))  # type: ignore[arg-type]
        move_after(node, y, perm, f"{node.name}_transposed")

    return move


def _same_transpose(value: ir.Value | None, perm: Sequence[int]) -> bool:
    producer = value.producer() if value is not None else None
    return producer is not None and is_transpose(producer) and permutation(producer) == list(perm)


def _permuted_already(value: ir.Value | None, perm: Sequence[int]) -> ir.Value | None:
    """The value in channels-last form, which is there already as with an input that a convolution and an addition read.

    Only from channels-first to channels-last, and not where these are one permutation: else it could go back and forth.
    """
    if value is None or value.is_initializer() or len(perm) < 4 or list(perm) != to_first(len(perm)):
        return None
    wanted = inverse(perm)
    for node in value.consumers():
        if is_transpose(node) and permutation(node) == wanted and node.outputs[0].uses():
            return node.outputs[0]
    return None


def _thin(value: ir.Value | None, perm: Sequence[int]) -> ir.Shape | None:
    """The shape of the transposed value, where only axes of size 1 move among the others: its numbers stay in order.

    An embedding that is added to all places of an image is such a value.
    """
    if value is None or value.is_initializer() or value.shape is None or len(value.shape) != len(perm):
        return None
    order = [axis for axis in perm if value.shape[axis] != 1]
    known = [d for d in value.shape if isinstance(d, int) and d > 0]
    if order != sorted(order) or len(order) == len(perm) or len(known) < len(perm) - 1:
        return None
    return permuted(value.shape, perm)


def _reshaped(node: ir.Node, value: ir.Value, shape: ir.Shape) -> ir.Value:
    """The value's numbers in another shape, from where they last stood in any."""
    while (maker := value.producer()) is not None and (maker.domain, maker.op_type) in _RESHAPES and maker.inputs[0]:
        value = maker.inputs[0]
    made = _reshape(node, value, [d if isinstance(d, int) else -1 for d in shape], "reshaped")
    made.shape = shape
    return made


def _is_number(value: ir.Value | None) -> bool:
    return value is None or (value.shape is not None and all(d == 1 for d in value.shape) and len(value.shape) <= 1)


def _permutable(value: ir.Value | None, rank: int) -> bool:
    """A weight, or a value computed from weights alone, of at most that rank and with known sizes."""
    if value is None or value.shape is None or len(value.shape) > rank:
        return False
    return value.is_initializer() and not value.is_graph_input()


def _permute_weight(node: ir.Node, value: ir.Value, perm: Sequence[int]) -> ir.Value:
    """A weight, broadcast to the rank of the permutation, with its axes in the new order.

    A constant is rearranged now; a weight that trains stays as it is and is rearranged by nodes.
    """
    from dlbridge.ops import traits

    graph = node.graph
    assert graph is not None and value.shape is not None and value.const_value is not None
    shape = [1] * (len(perm) - len(value.shape)) + [int(d) for d in value.shape]  # type: ignore[call-overload]
    wanted = [shape[axis] for axis in perm]
    while len(wanted) > 1 and wanted[0] == 1:
        wanted = wanted[1:]
    if traits.kind(value) == "constant":
        array = value.const_value.numpy().reshape(shape).transpose(perm).reshape(wanted)
        return _constant(graph, np.ascontiguousarray(array), f"{value.name}_permuted", value.const_value.dtype)
    if math.prod(shape) == max(shape):
        if wanted == [int(d) for d in value.shape]:  # type: ignore[call-overload]
            return value
        return _reshape(node, value, wanted)
    full = value if len(shape) == len(value.shape) else _reshape(node, value, shape)
    moved = transpose(full, perm, f"{node.name}_weight_permuted")
    graph.insert_before(node, moved)
    return moved.outputs[0]


def _reshape(node: ir.Node, value: ir.Value, shape: Sequence[int], what: str = "weight_reshaped") -> ir.Value:
    graph = node.graph
    assert graph is not None
    target = _constant(graph, np.array(shape, np.int64), f"{value.name}_shape", ir.DataType.INT64)
    made = ir.node("Reshape", [value, target], name=f"{node.name}_{what}")
    out = made.outputs[0]
    out.dtype, out.shape = value.dtype, ir.Shape(list(shape))
    graph.insert_before(node, made)
    return out


def _constant(graph: ir.Graph, array: np.ndarray, name: str, dtype: ir.DataType) -> ir.Value:
    """A constant of the graph; one that is there already under the name with the same numbers serves again."""
    count = 0
    while True:
        unique = f"{name}_{count}" if count else name
        known = graph.initializers.get(unique)
        if known is None:
            break
        if known.const_value is not None and np.array_equal(known.const_value.numpy(), array):
            return known
        count += 1
    tensor = ir.Tensor(array, dtype=dtype, name=unique)
    value = ir.Value(name=unique, shape=ir.Shape(array.shape), type=ir.TensorType(dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def _axis(node: ir.Node, perm: list[int]) -> Move | None:
    default = -1
    inputs = node.inputs if is_op(node, "Concat") else node.inputs[:1]
    if not all(_same_transpose(v, perm) for v in inputs):
        return None
    attribute = node.attributes.get("axis")
    axis = (attribute.as_int() if attribute is not None else (0 if is_op(node, "Split") else default)) % len(perm)

    def move() -> None:
        for index in range(len(inputs)):
            node.replace_input_with(index, _inner(node.inputs[index]))
        node.attributes["axis"] = ir.AttrInt64("axis", perm[axis])
        for index, y in enumerate(node.outputs):
            suffix = f"_{index}" if index else ""
            move_after(node, y, perm, f"{node.name}_transposed{suffix}")

    return move


def _numbers(value: ir.Value | None) -> list[int] | None:
    if value is None or value.const_value is None:
        return None
    return [int(i) for i in value.const_value.numpy().reshape(-1)]


def _reduction(node: ir.Node, perm: list[int]) -> Move | None:
    axes = _numbers(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else []
    keepdims = node.attributes["keepdims"].as_int() if "keepdims" in node.attributes else 1
    if axes is None or not _only_input(node, 0) or (not axes and len(node.inputs) > 1 and node.inputs[1] is not None):
        return None
    if not axes:
        return None
    axes = [a % len(perm) for a in axes]

    def move() -> None:
        graph = node.graph
        assert graph is not None
        node.replace_input_with(0, _inner(node.inputs[0]))
        moved = np.array(sorted(perm[a] for a in axes), np.int64)
        node.replace_input_with(1, _constant(graph, moved, f"{node.name}_axes_permuted", ir.DataType.INT64))
        rest = perm if keepdims else without(perm, axes)
        if rest != list(range(len(rest))):
            move_after(node, node.outputs[0], rest, f"{node.name}_transposed")

    return move


def _pad(node: ir.Node, perm: list[int]) -> Move | None:
    pads = _numbers(node.inputs[1])
    has_axes = len(node.inputs) > 3 and node.inputs[3] is not None
    axes = _numbers(node.inputs[3]) if has_axes else list(range(len(perm)))
    if pads is None or axes is None or not _only_input(node, 0):
        return None
    before, after = [0] * len(perm), [0] * len(perm)
    for place, axis in enumerate(axes):
        before[perm[axis % len(perm)]] = pads[place]
        after[perm[axis % len(perm)]] = pads[len(axes) + place]

    def move() -> None:
        graph = node.graph
        assert graph is not None
        node.replace_input_with(0, _inner(node.inputs[0]))
        moved = np.array(before + after, np.int64)
        node.replace_input_with(1, _constant(graph, moved, f"{node.name}_pads_permuted", ir.DataType.INT64))
        if has_axes:
            node.replace_input_with(3, None)
        move_after(node, node.outputs[0], perm, f"{node.name}_transposed")

    return move


def _slice(node: ir.Node, perm: list[int]) -> Move | None:
    starts = _numbers(node.inputs[1])
    has_axes = len(node.inputs) > 3 and node.inputs[3] is not None
    axes = _numbers(node.inputs[3]) if has_axes else list(range(len(starts or [])))
    if axes is None or not _only_input(node, 0) or (starts is None and not has_axes):
        return None

    def move() -> None:
        graph = node.graph
        assert graph is not None
        node.replace_input_with(0, _inner(node.inputs[0]))
        moved = np.array([perm[a % len(perm)] for a in axes], np.int64)
        if len(node.inputs) < 4:
            node.resize_inputs(4)
        node.replace_input_with(3, _constant(graph, moved, f"{node.name}_axes_permuted", ir.DataType.INT64))
        move_after(node, node.outputs[0], perm, f"{node.name}_transposed")

    return move


def _squeeze(node: ir.Node, perm: list[int]) -> Move | None:
    axes = _numbers(node.inputs[1]) if len(node.inputs) > 1 else None
    if not axes or not _only_input(node, 0):
        return None
    axes = [a % len(perm) for a in axes]
    rest = without(perm, axes)

    def move() -> None:
        graph = node.graph
        assert graph is not None
        node.replace_input_with(0, _inner(node.inputs[0]))
        moved = np.array(sorted(perm[a] for a in axes), np.int64)
        node.replace_input_with(1, _constant(graph, moved, f"{node.name}_axes_permuted", ir.DataType.INT64))
        if rest != list(range(len(rest))):
            move_after(node, node.outputs[0], rest, f"{node.name}_transposed")

    return move


def _unsqueeze(node: ir.Node, perm: list[int]) -> Move | None:
    """Each new axis keeps its place; the axes that were there take the other places in the inner order."""
    axes = _numbers(node.inputs[1])
    if not axes or not _only_input(node, 0):
        return None
    rank = len(perm) + len(axes)
    axes = sorted(a % rank for a in axes)
    old = [a for a in range(rank) if a not in axes]
    moved = list(range(rank))
    for place, source in zip(old, perm, strict=True):
        moved[place] = old[source]

    def move() -> None:
        node.replace_input_with(0, _inner(node.inputs[0]))
        move_after(node, node.outputs[0], moved, f"{node.name}_transposed")

    return move


def _resize(node: ir.Node, perm: list[int]) -> Move | None:
    """``roi``, ``scales`` and ``sizes`` go by ``axes``, which alone change; kept in order where the sizes are known."""
    if not _only_input(node, 0):
        return None
    attribute = node.attributes.get("axes")
    axes = [a % len(perm) for a in attribute.as_ints()] if attribute is not None else list(range(len(perm)))
    moved = [perm[a] for a in axes]
    given = [(i, v) for i, v in enumerate(node.inputs[1:], 1) if v is not None and v.shape != (0,)]

    def move() -> None:
        graph, places = node.graph, moved
        assert graph is not None
        node.replace_input_with(0, _inner(node.inputs[0]))
        if all(v.const_value is not None for _, v in given):
            order, places = sorted(range(len(moved)), key=moved.__getitem__), sorted(moved)
            for index, value in given:
                assert value.const_value is not None and value.dtype is not None
                array = value.const_value.numpy()
                if array.size:
                    array = array.reshape(-1, len(moved))[:, order].reshape(-1)  # roi: starts, then ends
                    name = f"{node.name}_{node.op_type}_{index}_permuted"
                    node.replace_input_with(index, _constant(graph, array, name, value.dtype))
        node.attributes["axes"] = ir.AttrInt64s("axes", places)
        move_after(node, node.outputs[0], perm, f"{node.name}_transposed")

    return move


def _cumulation(node: ir.Node, perm: list[int]) -> Move | None:
    axes = _numbers(node.inputs[1])
    if not axes or not _only_input(node, 0):
        return None

    def move() -> None:
        graph = node.graph
        assert graph is not None
        node.replace_input_with(0, _inner(node.inputs[0]))
        moved = np.array(perm[axes[0] % len(perm)], np.int64)
        node.replace_input_with(1, _constant(graph, moved, f"{node.name}_axis_permuted", ir.DataType.INT64))
        move_after(node, node.outputs[0], perm, f"{node.name}_transposed")

    return move


def _one_along(node: ir.Node, perm: list[int]) -> Move | None:
    """ArgMax and ArgMin, and Gather of one place: the place along an axis is the same wherever the axis stands."""
    index = node.inputs[1] if is_op(node, "Gather") else None
    if index is not None and (index.shape is None or len(index.shape) or not _only_input(node, 0)):
        return None
    axis = (node.attributes["axis"].as_int() if "axis" in node.attributes else 0) % len(perm)
    keepdims = node.attributes["keepdims"].as_int() if "keepdims" in node.attributes else 1

    def move() -> None:
        node.replace_input_with(0, _inner(node.inputs[0]))
        node.attributes["axis"] = ir.AttrInt64("axis", perm[axis])
        rest = perm if keepdims and index is None else without(perm, [axis])
        if rest != list(range(len(rest))):
            move_after(node, node.outputs[0], rest, f"{node.name}_transposed")

    return move


SINKS: dict[tuple[str, str], Rule] = {
    **{(extension.DOMAIN, op): _dropout for op in extension.NOISE_OPS},
    **{("", op): _unary for op in UNARY_OPS},
    **{("", op): _broadcasting for op in BROADCASTING_OPS},
    **{("", op): _reduction for op in REDUCTIONS},
    **{("", op): _axis for op in AXIS_OPS},
    ("", "Pad"): _pad,
    ("", "Slice"): _slice,
    ("", "Squeeze"): _squeeze,
    ("", "Unsqueeze"): _unsqueeze,
    ("", "Resize"): _resize,
    ("", "CumSum"): _cumulation,
    ("", "CumProd"): _cumulation,
    ("", "ArgMax"): _one_along,
    ("", "ArgMin"): _one_along,
    ("", "Gather"): _one_along,
    ("", "Reshape"): reshape_rule,
    ("", "Flatten"): flatten_rule,
}
