"""Layout: spatial ops in channels-last form between transposes, and transposes cancelled or moved where that keeps
the meaning.

A node of the domain ``dlbridge.channels_last`` means: transpose to channels-first, the standard's op, transpose back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from dlbridge.model import Model

DOMAIN = "dlbridge.channels_last"

#: Ops whose input 0 and output 0 are (batch, channels, spatial...).
SPATIAL_OPS = {
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "LpPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GlobalLpPool",
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "LRN",
    "DepthToSpace",
    "SpaceToDepth",
}

#: Elementwise ops of one tensor, whatever its layout.
UNARY_OPS = {
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Clip", "Cos"),
    *("Cosh", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf"),
    *("IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid"),
    *("Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu"),
}

#: Elementwise ops of several tensors that broadcast.
BROADCASTING_OPS = {
    *("Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual"),
    *("Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor"),
}


def channels_last(model: Model, *, io_layout: str = "same") -> Model:
    """A model whose spatial ops are channels-last, with as few transposes as the rules below leave.

    Args:
        model: It is changed in place; every shape must be inferred.
        io_layout: ``"same"``, or ``"native"`` to make the interface channels-last too.
    """
    graph = model.graph
    for node in list(graph):
        if node.domain == "" and node.op_type in SPATIAL_OPS and _is_spatial(node):
            _wrap(node)
    changed = True
    while changed:
        changed = False
        for node in list(graph):
            if node.graph is not None and node.op_type == "Transpose" and node.domain == "":
                changed |= _cancel(node) or _sink(node)
    _remove_dead(graph)
    graph.sort()
    return model


def _is_spatial(node: ir.Node) -> bool:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return shape is not None and len(shape) >= 3 and not any(o.name and o.uses() for o in node.outputs[1:])


def to_last(rank: int) -> list[int]:
    """The permutation that makes channels-first channels-last."""
    return [0, *range(2, rank), 1]


def to_first(rank: int) -> list[int]:
    return [0, rank - 1, *range(1, rank - 1)]


def transpose(value: ir.Value, perm: Sequence[int], name: str) -> ir.Node:
    """A Transpose node, with its output's dtype and shape."""
    node = ir.node("Transpose", [value], {"perm": list(perm)}, name=name)
    out = node.outputs[0]
    out.dtype = value.dtype
    out.shape = permuted(value.shape, perm)
    return node


def permuted(shape: ir.Shape | None, perm: Sequence[int]) -> ir.Shape | None:
    return None if shape is None else ir.Shape([shape[p] for p in perm])


def _wrap(node: ir.Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None and x.shape is not None and node.graph is not None
    rank = len(x.shape)
    before = transpose(x, to_last(rank), f"{node.name}.to_channels_last")
    node.graph.insert_before(node, before)
    node.replace_input_with(0, before.outputs[0])
    node.domain = DOMAIN
    _move_after(node, y, to_first(rank), f"{node.name}.to_channels_first")


def _move_after(node: ir.Node, y: ir.Value, perm: Sequence[int], name: str) -> ir.Node:
    """Let a node compute ``y`` in another layout, with a Transpose after it that gives ``y`` as it was."""
    inverse = [list(perm).index(i) for i in range(len(perm))]
    shape, wanted = y.shape, y.name
    y.shape = permuted(shape, inverse)
    after = ir.node("Transpose", [y], {"perm": list(perm)}, name=name)
    out = after.outputs[0]
    out.dtype, out.shape = y.dtype, shape
    assert node.graph is not None
    node.graph.insert_after(node, after)
    ir.convenience.replace_all_uses_with(y, out, replace_graph_outputs=True)
    after.replace_input_with(0, y)
    y.name = f"{wanted}.channels_last"
    out.name = wanted
    return after


def _perm(node: ir.Node) -> list[int]:
    attribute = node.attributes.get("perm")
    if attribute is not None:
        return list(attribute.as_ints())
    rank = len(node.inputs[0].shape)  # type: ignore[union-attr, arg-type]
    return list(reversed(range(rank)))


def _cancel(node: ir.Node) -> bool:
    """A Transpose of a Transpose is one Transpose, or nothing."""
    perm, x, y = _perm(node), node.inputs[0], node.outputs[0]
    assert x is not None
    if perm == list(range(len(perm))) and not (y.is_graph_output() and (x.is_graph_input() or x.is_graph_output())):
        _replace(y, x)
        return True
    inner = x.producer()
    if inner is None or inner.op_type != "Transpose" or inner.domain != "":
        return False
    first = _perm(inner)
    node.replace_input_with(0, inner.inputs[0])
    node.attributes["perm"] = ir.AttrInt64s("perm", [first[p] for p in perm])
    return True


def _replace(old: ir.Value, new: ir.Value) -> None:
    name = old.name
    node = old.producer()
    was_output = old.is_graph_output()
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    if was_output:
        new.name = name
    if node is not None and node.graph is not None:
        node.graph.remove(node, safe=True)


def _sink(transposed: ir.Node) -> bool:
    """Move a Transpose behind the one node that reads it, where that node does not care for the order of axes."""
    out = transposed.outputs[0]
    if out.is_graph_output() or len(out.consumers()) != 1:
        return False
    node = out.consumers()[0]
    rule = _SINKS.get((node.domain, node.op_type))
    return rule is not None and rule(node, _perm(transposed))


def _sink_unary(node: ir.Node, perm: list[int]) -> bool:
    source = node.inputs[0]
    if len([v for v in node.outputs if v.uses() or v.is_graph_output()]) > 1 or source is None:
        return False
    inner = source.producer()
    assert inner is not None
    node.replace_input_with(0, inner.inputs[0])
    _move_after(node, node.outputs[0], perm, f"{node.name}.transposed")
    return True


def _sink_broadcasting(node: ir.Node, perm: list[int]) -> bool:
    """All inputs are the same transpose, or constants and weights that hold one number."""
    fresh: list[ir.Value | None] = []
    for value in node.inputs:
        inner = value.producer() if value is not None else None
        if inner is not None and inner.op_type == "Transpose" and inner.domain == "" and _perm(inner) == perm:
            fresh.append(inner.inputs[0])
        elif value is not None and value.shape is not None and all(d == 1 for d in value.shape):
            fresh.append(value)
        else:
            return False
    y = node.outputs[0]
    if y.shape is None or len(y.shape) != len(perm):
        return False
    for index, value in enumerate(fresh):
        node.replace_input_with(index, value)
    _move_after(node, y, perm, f"{node.name}.transposed")
    return True


def _sink_concat(node: ir.Node, perm: list[int]) -> bool:
    producers = [v.producer() if v is not None else None for v in node.inputs]
    if any(p is None or p.op_type != "Transpose" or p.domain != "" or _perm(p) != perm for p in producers):
        return False
    axis = node.attributes["axis"].as_int() % len(perm)
    for index, producer in enumerate(producers):
        node.replace_input_with(index, producer.inputs[0])  # type: ignore[union-attr]
    node.attributes["axis"] = ir.AttrInt64("axis", perm[axis])
    _move_after(node, node.outputs[0], perm, f"{node.name}.transposed")
    return True


_SINKS: dict[tuple[str, str], Callable[[ir.Node, list[int]], bool]] = {
    **{("", op): _sink_unary for op in UNARY_OPS},
    **{("", op): _sink_broadcasting for op in BROADCASTING_OPS},
    ("", "Concat"): _sink_concat,
}


def _remove_dead(graph: ir.Graph) -> None:
    for node in reversed(list(graph)):
        if not any(o.uses() or o.is_graph_output() for o in node.outputs):
            graph.remove(node, safe=True)
