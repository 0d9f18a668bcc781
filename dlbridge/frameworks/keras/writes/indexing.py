"""Ops that look up, and that pad."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.rules import rules
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Op


@rules("Gather")
def gather(op: Op) -> Code:
    axis, index = op.axis(), op.scalar(1)
    if index is not None and op.rank(1) == 0:
        return code("{}[{}]", op.x, code(", ".join([":"] * axis + ["{}"]), int(index)))
    return call("ops.take", op[0], op[1], axis=axis)


@rules("GatherElements")
def gather_elements(op: Op) -> Code:
    return call("ops.take_along_axis", op[0], op[1], axis=op.axis())


@rules("Pad")
def pad(op: Op) -> Code:
    pads = op.numbers(1)
    axes = op.numbers(3) if op.has(3) else list(range(op.rank()))
    if pads is None or axes is None:
        op.refuse("its pads are computed")
    pairs: list[Any] = [(0, 0)] * op.rank()
    for place, axis in enumerate(axes):  # type: ignore[arg-type]
        pairs[axis % op.rank()] = (pads[place], pads[len(axes) + place])  # type: ignore[index, arg-type]
    mode = op.attr("mode")
    if any(amount < 0 for pair in pairs for amount in pair) or mode == "wrap":
        op.refuse("negative pads and 'wrap'")
    names = {"constant": None, "reflect": "reflect", "edge": "symmetric"}
    if mode == "edge" and any(amount > 1 for pair in pairs for amount in pair):
        op.refuse("'edge' beyond one element")
    value = op.operand(2) if op.has(2) else None
    keywords: dict[str, Any] = {"mode": names[mode], "constant_values": value if mode == "constant" else None}
    return call("ops.pad", op.x, pairs, **keywords)


@rules("OneHot")
def one_hot(op: Op) -> Code:
    depth, values = op.numbers(1), op.const(2)
    if depth is None or values is None or list(values) != [0, 1]:
        op.refuse("its depth is computed, or its values are not 0 and 1")
    indices = call("ops.mod", op[0], depth[0])  # type: ignore[index]
    return call("ops.one_hot", indices, depth[0], axis=op.attr("axis"), dtype=op.out_dtype().name.lower())  # type: ignore[index]


@rules("Trilu")
def trilu(op: Op) -> Code:
    k = op.ints(1)[0] if op.has(1) and op.ints(1) else 0  # type: ignore[index]
    return call("ops.triu" if op.attr("upper") else "ops.tril", op.x, k=k or None)
