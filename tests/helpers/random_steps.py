"""More steps of random graphs: each adds nodes to a graph, or nothing where it does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from tests.helpers.random_graphs import Graph

BATCH = "batch"
Shape = tuple[int | str, ...]


def _known(sizes: Shape) -> bool:
    return all(isinstance(d, int) and d > 0 for d in sizes)


def _is_image(shape: Shape) -> bool:
    return len(shape) == 4 and shape[0] == BATCH and _known(shape[1:])


def _ones_for_names(shape: Shape) -> list[int]:
    """Sizes that fit into the shape, whatever its named ones are."""
    return [d if isinstance(d, int) else 1 for d in shape]


def _axis_of(g: Graph, shape: Shape) -> int | None:
    """An axis with a size that is known and not 0."""
    axes = [i for i, d in enumerate(shape) if isinstance(d, int) and d]
    return int(g.random.choice(axes)) if axes else None


# --- elements --------------------------------------------------------------------------------------------------------


def clip(g: Graph, x: str, shape: Shape) -> None:
    low, high = (g.hold(np.float32(v)) if g.random.random() < 0.7 else "" for v in (-0.5, 0.8))
    g.node("Clip", [x, low, high], shape)


def divide(g: Graph, x: str, shape: Shape) -> None:
    by = np.abs(g.random.normal(size=[d if isinstance(d, int) else 1 for d in shape[-1:]])) + 0.5
    g.node("Div", [x, g.hold(by.astype(np.float32))], shape)


def several(g: Graph, x: str, shape: Shape) -> None:
    g.node(str(g.random.choice(["Sum", "Mean", "Max", "Min"])), [x, g.numbers([1]), x], shape)


def prelu(g: Graph, x: str, shape: Shape) -> None:
    g.node("PRelu", [x, g.numbers([d if isinstance(d, int) else 1 for d in shape[-1:]])], shape)


def integers(g: Graph, x: str, shape: Shape) -> None:
    kind = int(g.random.choice([TensorProto.INT32, TensorProto.INT64]))
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    whole = g.hidden("Cast", [g.hidden("Floor", [x])], to=kind)
    op, other = [("Mul", 3), ("Add", -2), ("Max", 1), ("Mod", 3), ("Div", 2)][g.random.integers(5)]
    g.node("Cast", [g.hidden(op, [whole, g.hold(np.array(other, dtype))])], shape, to=TensorProto.FLOAT)


def doubles(g: Graph, x: str, shape: Shape) -> None:
    wide = g.hidden("Cast", [x], to=TensorProto.DOUBLE)
    g.node("Cast", [g.hidden(str(g.random.choice(["Tanh", "Exp", "Neg"])), [wide])], shape, to=TensorProto.FLOAT)


def logic(g: Graph, x: str, shape: Shape) -> None:
    above, below = (g.hidden(op, [x, g.hold(np.float32(v))]) for op, v in (("Greater", -0.3), ("Less", 0.6)))
    both = g.hidden(str(g.random.choice(["And", "Or", "Xor"])), [above, g.hidden("Not", [below])])
    g.node("Where", [both, x, g.numbers([1] * len(shape))], shape)


# --- places ----------------------------------------------------------------------------------------------------------


def topk(g: Graph, x: str, shape: Shape) -> None:
    if (axis := _axis_of(g, shape)) is not None:
        k = int(g.random.integers(1, shape[axis] + 1))  # type: ignore[operator]
        largest = int(g.random.integers(0, 2))
        kept = (*shape[:axis], k, *shape[axis + 1 :])
        g.node("TopK", [x, g.ints(k)], kept, 2, axis=axis, largest=largest)


def scatter(g: Graph, x: str, shape: Shape) -> None:
    axis, fitting = _axis_of(g, shape), _ones_for_names(shape)
    if axis is None or 0 in fitting:
        return
    order = g.random.permuted(
        np.broadcast_to(np.arange(shape[axis]), (*fitting[:axis], *fitting[axis + 1 :], shape[axis])), axis=-1
    )
    places = np.moveaxis(order, -1, axis).astype(np.int64)
    how = str(g.random.choice(["none", "add", "mul", "max", "min"]))
    g.node("ScatterElements", [x, g.hold(places), g.numbers(places.shape)], shape, axis=axis, reduction=how)


def scatter_nd(g: Graph, x: str, shape: Shape) -> None:
    if _known(shape[1:]):
        how = str(g.random.choice(["none", "add", "max"]))
        g.node("ScatterND", [x, g.hold(np.array([[0]])), g.numbers([1, *shape[1:]])], shape, reduction=how)


def gather_elements(g: Graph, x: str, shape: Shape) -> None:
    axis, fitting = _axis_of(g, shape), _ones_for_names(shape)
    if axis is not None and 0 not in fitting:
        fitting[axis] = int(g.random.integers(1, 4))
        places = g.random.integers(-shape[axis], shape[axis], fitting)  # type: ignore[operator]
        g.node("GatherElements", [x, g.hold(places)], tuple(fitting), axis=axis)


def gather_nd(g: Graph, x: str, shape: Shape) -> None:
    if len(shape) >= 2 and _known(shape[1:2]):
        places = np.stack([np.zeros(3, np.int64), g.random.integers(0, shape[1], 3)], -1)  # type: ignore[call-overload]
        g.node("GatherND", [x, g.hold(places)], (3, *shape[2:]))


def one_hot(g: Graph, x: str, shape: Shape) -> None:
    if isinstance(shape[-1], int) and shape[-1] and 1 < len(shape) < 5:
        best = g.hidden("ArgMax", [x], axis=-1, keepdims=0)
        values = g.hold(np.array([-0.5, 2], np.float32))
        g.node("OneHot", [best, g.hold(np.int64(shape[-1])), values], shape, axis=-1)


def trilu(g: Graph, x: str, shape: Shape) -> None:
    if len(shape) >= 2:
        g.node("Trilu", [x, g.hold(np.int64(g.random.integers(-1, 2)))], shape, upper=int(g.random.integers(0, 2)))


# --- products and windows --------------------------------------------------------------------------------------------


def einsum(g: Graph, x: str, shape: Shape) -> None:
    if len(shape) in (2, 3) and isinstance(shape[-1], int) and shape[-1]:
        left = "abc"[: len(shape)]
        turned = left[:-1][::-1]
        kept = (*shape[:-1][::-1], 3)
        g.node("Einsum", [x, g.numbers([shape[-1], 3])], kept, equation=f"{left},{left[-1]}z->{turned}z")


def square(g: Graph, x: str, shape: Shape) -> None:
    if len(shape) >= 2 and len(shape) <= 4:
        perm = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        g.node("MatMul", [x, g.hidden("Transpose", [x], perm=perm)], (*shape[:-1], shape[-2]))


def strided_conv(g: Graph, x: str, shape: Shape) -> None:
    if _is_image(shape):
        group = 2 if shape[1] % 2 == 0 and g.random.random() < 0.5 else 1  # type: ignore[operator]
        weight = g.numbers([2 * group, shape[1] // group, 3, 3])  # type: ignore[operator]
        stride, dilation = (int(n) for n in g.random.choice([[1, 2], [2, 1], [2, 2]]))
        sizes = tuple((d + 2 * dilation - 2 * dilation - 1) // stride + 1 for d in shape[2:])  # type: ignore[operator]
        options: dict[str, Any] = {"strides": [stride] * 2, "dilations": [dilation] * 2, "pads": [dilation] * 4}
        g.node("Conv", [x, weight, g.numbers([2 * group])], (BATCH, 2 * group, *sizes), group=group, **options)


def conv_transpose(g: Graph, x: str, shape: Shape) -> None:
    if _is_image(shape):
        before, after = (int(n) for n in g.random.integers(0, 2, 2))
        sizes = tuple(2 * (d - 1) + 3 - before - after for d in shape[2:])  # type: ignore[operator]
        if min(sizes) > 0:
            weight = g.numbers([shape[1], 2, 3, 3])
            pads = [before, before, after, after]
            g.node("ConvTranspose", [x, weight], (BATCH, 2, *sizes), strides=[2, 2], pads=pads)


def resize(g: Graph, x: str, shape: Shape) -> None:
    if _is_image(shape):
        mode = str(g.random.choice(["nearest", "linear", "cubic"]))
        ways = ["half_pixel", "asymmetric", "align_corners"] if mode != "nearest" else ["half_pixel", "asymmetric"]
        how = {"mode": mode, "coordinate_transformation_mode": str(g.random.choice(ways)), "nearest_mode": "floor"}
        sizes = [int(n) for n in g.random.integers(1, 7, 2)]
        g.node("Resize", [x, "", "", g.ints(*sizes)], (*shape[:2], *sizes), axes=[2, 3], **how)


def spaces(g: Graph, x: str, shape: Shape) -> None:
    if _is_image(shape) and shape[1] % 4 == 0:  # type: ignore[operator]
        grown = (BATCH, shape[1] // 4, *(2 * d for d in shape[2:]))  # type: ignore[operator]
        g.node("DepthToSpace", [x], grown, blocksize=2, mode=str(g.random.choice(["DCR", "CRD"])))


def normalized(g: Graph, x: str, shape: Shape) -> None:
    if len(shape) >= 3 and shape[0] == BATCH and _known(shape[1:]) and np.prod(shape[2:]) > 2:  # type: ignore[arg-type]
        vectors = [g.numbers([shape[1]]) for _ in range(3)]
        if g.random.random() < 0.5:
            variance = g.hold(np.abs(g.random.normal(size=shape[1])).astype(np.float32) + 0.3)  # type: ignore[call-overload]
            g.node("BatchNormalization", [x, *vectors, variance], shape)
        else:
            g.node("InstanceNormalization", [x, *vectors[:2]], shape, epsilon=0.01)


def pooled(g: Graph, x: str, shape: Shape) -> None:
    if _is_image(shape):
        if g.random.random() < 0.4:
            op = str(g.random.choice(["GlobalAveragePool", "GlobalMaxPool"]))
            g.node(op, [x], (*shape[:2], 1, 1))
        else:
            op = str(g.random.choice(["MaxPool", "AveragePool", "LpPool"]))
            g.node(op, [x], shape, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


# --- sizes that are computed, as exporters do ------------------------------------------------------------------------


def flattened(g: Graph, x: str, shape: Shape) -> None:
    """``x.reshape(x.shape[0], -1)`` as torch.onnx wrote it."""
    if shape[0] != BATCH or not _known(shape[1:]) or len(shape) < 2:
        return
    first = g.hidden("Gather", [g.hidden("Shape", [x]), g.hold(np.int64(0))], axis=0)
    target = g.hidden("Concat", [g.hidden("Unsqueeze", [first, g.ints(0)]), g.ints(-1)], axis=0)
    g.node("Reshape", [x, target], (BATCH, int(np.prod(shape[1:]))))  # type: ignore[arg-type]


def filled(g: Graph, x: str, shape: Shape) -> None:
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.75])
    g.node("Add", [g.hidden("ConstantOfShape", [g.hidden("Shape", [x])], value=value), x], shape)


def counted(g: Graph, x: str, shape: Shape) -> None:
    """Positions along the last axis, added."""
    size = g.hidden("Gather", [g.hidden("Shape", [x]), g.hold(np.int64(-1))], axis=0)
    steps = g.hidden("Range", [g.hold(np.int64(0)), size, g.hold(np.int64(1))])
    g.node("Add", [x, g.hidden("Cast", [steps], to=TensorProto.FLOAT)], shape)


def expanded(g: Graph, x: str, shape: Shape) -> None:
    g.node("Mul", [g.hidden("Expand", [g.numbers([1]), g.hidden("Shape", [x])]), x], shape)


def cut_by_size(g: Graph, x: str, shape: Shape) -> None:
    """``x[:, : x.shape[1] // 2 + 1]``"""
    if len(shape) >= 2 and isinstance(shape[1], int) and shape[1]:
        size = g.hidden("Shape", [x], start=1, end=2)
        end = g.hidden("Add", [g.hidden("Div", [size, g.ints(2)]), g.ints(1)])
        kept = (shape[0], shape[1] // 2 + 1, *shape[2:])
        g.node("Slice", [x, g.ints(0), end, g.ints(1)], (kept[0], min(kept[1], shape[1]), *kept[2:]))


# --- control flow ----------------------------------------------------------------------------------------------------


def branch(g: Graph, x: str, shape: Shape) -> None:
    total = g.hidden("ReduceSum", [x], keepdims=0)
    condition = g.hidden("Greater", [total, g.hold(np.float32(0.1))])
    g.node("If", [condition], shape, then_branch=_body(["Relu", "Neg"], x, "yes"), else_branch=_body(["Tanh"], x, "no"))


def _body(ops: list[str], x: str, name: str) -> Any:
    names = [x, *(f"{name}{i}" for i in range(len(ops)))]
    nodes = [helper.make_node(op, [a], [b]) for op, a, b in zip(ops, names, names[1:], strict=False)]
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, None)])


def repeat(g: Graph, x: str, shape: Shape) -> None:
    half = helper.make_node("Mul", ["state", g.hold(np.float32(0.5))], ["halved"])
    moved = helper.make_node("Add", ["halved", x], ["next"])
    stay, seen = (helper.make_node("Identity", [a], [b]) for a, b in (("go", "going"), ("next", "shown")))
    info = helper.make_tensor_value_info
    inputs = [
        info("i", TensorProto.INT64, []),
        info("go", TensorProto.BOOL, []),
        info("state", TensorProto.FLOAT, list(shape)),
    ]
    outputs = [
        info("going", TensorProto.BOOL, []),
        *(info(n, TensorProto.FLOAT, list(shape)) for n in ("next", "shown")),
    ]
    body = helper.make_graph([half, moved, stay, seen], "body", inputs, outputs)
    name = g.node("Loop", [g.hold(np.int64(3)), "", x], shape, 2, body=body)
    if len(shape) < 5:
        g.shapes[f"{name[:-1]}1"] = (3, *shape)


def scan(g: Graph, x: str, shape: Shape) -> None:
    """Running sums along the first axis."""
    if len(shape) < 2 or not _known(shape[1:]) or shape[0] == 0:
        return
    start = g.hold(np.zeros(shape[1:], np.float32))  # type: ignore[arg-type]
    info = helper.make_tensor_value_info
    nodes = [helper.make_node("Add", ["sum", "part"], ["more"]), helper.make_node("Identity", ["more"], ["kept"])]
    inputs, outputs = (
        [info(n, TensorProto.FLOAT, list(shape[1:])) for n in names] for names in (("sum", "part"), ("more", "kept"))
    )
    body = helper.make_graph(nodes, "body", inputs, outputs)
    name = g.node("Scan", [start, x], shape[1:], 2, body=body, num_scan_inputs=1)
    g.shapes[f"{name[:-1]}1"] = shape


STEPS = [
    *(clip, divide, several, prelu, integers, doubles, logic, topk, scatter, scatter_nd, gather_elements, gather_nd),
    *(one_hot, trilu, einsum, square, strided_conv, conv_transpose, resize, spaces, normalized, pooled, flattened),
    *(filled, counted, expanded, cut_by_size, branch, repeat, scan),
]
