"""Faults of attributes: off by one, on the wrong side, of the wrong mode, left at their default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dlbridge.passes.matching import Match
from dlbridge.verification.faults.kind import Change, kind, set_attribute

#: Ops that work along one axis and whose output has the shape of their input.
_ALONG_AXIS = ("Softmax", "LogSoftmax", "Hardmax", "CumSum", "LpNormalization")


def _changed(name: str, change: Callable[[Any], Any]) -> Callable[[Match], Iterator[Change]]:
    """A kind of fault that gives an attribute another value, wherever a node has it or the standard a default."""

    def finds(node: Match) -> Iterator[Change]:
        value = node.attribute(name)
        other = change(value) if value is not None else None
        if other is not None and other != value:
            yield set_attribute(name, other)

    return finds


def _other_of(*values: str) -> Callable[[str], str | None]:
    """The other value of a text attribute that has two."""
    return lambda value: {values[0]: values[1], values[1]: values[0]}.get(value)


def _flipped(value: int) -> int:
    return 1 - value


kind("an epsilon a hundred times larger")(_changed("epsilon", lambda v: v * 100 if v < 1e-3 else v * 3))
kind("an epsilon that is nearly 0")(_changed("epsilon", lambda v: v * 1e-4))
kind("a slope that is doubled")(_changed("alpha", lambda v: v * 2))
kind("an offset that is off")(_changed("beta", lambda v: v + 0.1))
kind("the approximation of GELU, or not")(_changed("approximate", _other_of("none", "tanh")))
kind("a causal mask, or not")(_changed("is_causal", _flipped))
kind("a scale that is off by a tenth")(_changed("scale", lambda v: v * 1.1))
kind("the smallest instead of the largest")(_changed("largest", _flipped))
kind("another end of ties")(_changed("select_last_index", _flipped))
kind("corners that are aligned, or not")(_changed("align_corners", _flipped))
kind("pixels that are counted from their corner")(
    _changed("coordinate_transformation_mode", lambda v: "asymmetric" if v != "asymmetric" else "half_pixel")
)
kind("the other rounding of nearest pixels")(_changed("nearest_mode", lambda v: "ceil" if v != "ceil" else "floor"))
kind("another coefficient of cubic interpolation")(_changed("cubic_coeff_a", lambda v: -0.5 if v != -0.5 else -0.75))
kind("padding that does not count, or does")(_changed("count_include_pad", _flipped))
kind("the last window left out, or not")(_changed("ceil_mode", _flipped))
kind("a sum without its own element, or with it")(_changed("exclusive", _flipped))
kind("a sum from the other end")(_changed("reverse", _flipped))
kind("the reset gate before the product, or after")(_changed("linear_before_reset", _flipped))
kind("the other triangle")(_changed("upper", _flipped))
kind("the other order of depth to space")(
    lambda node: _changed("mode", _other_of("DCR", "CRD"))(node) if node.is_op("DepthToSpace") else iter(())
)
kind("the sign of a remainder")(_changed("fmod", _flipped))
kind("the other norm")(lambda node: _changed("p", lambda v: 3 - v)(node) if node.is_op("LpNormalization") else iter(()))
kind("twice as many groups")(_changed("num_groups", lambda v: v * 2))
kind("no dilation")(_changed("dilations", lambda v: [1] * len(v)))
kind("statistics of the batch")(
    lambda node: iter([set_attribute("training_mode", 1)]) if node.is_op("BatchNormalization") else iter(())
)


@kind("padding on the other side")
def _pads_swapped(node: Match) -> Iterator[Change]:
    pads = node.get("pads")
    if pads is not None:
        half = len(pads) // 2
        swapped = [*pads[half:], *pads[:half]]
        if swapped != list(pads):
            yield set_attribute("pads", swapped)


@kind("one place of padding moved to the front")
def _pads_moved(node: Match) -> Iterator[Change]:
    pads = node.get("pads")
    if pads is not None and pads[-1] > 0:
        half = len(pads) // 2
        moved = list(pads)
        moved[half - 1] += 1
        moved[-1] -= 1
        yield set_attribute("pads", moved)


@kind("strides of the other axis")
def _strides_swapped(node: Match) -> Iterator[Change]:
    strides = node.get("strides")
    if strides is not None and len(set(strides)) > 1:
        yield set_attribute("strides", list(reversed(strides)))


@kind("another kind of padding")
def _pad_mode(node: Match) -> Iterator[Change]:
    if node.is_op("Pad"):
        yield set_attribute("mode", "edge" if node.attribute("mode") != "edge" else "reflect")


@kind("nearest pixels instead of interpolation, or the reverse")
def _resize_mode(node: Match) -> Iterator[Change]:
    if node.is_op("Resize"):
        yield set_attribute("mode", "nearest" if node.attribute("mode") != "nearest" else "linear")


@kind("a wrong axis")
def _axis(node: Match) -> Iterator[Change]:
    axis, rank = node.attribute("axis"), node.rank()
    if node.is_op(*_ALONG_AXIS) and rank is not None and rank > 1 and axis is not None:
        yield set_attribute("axis", (axis - 1) % rank)


@kind("a wrong axis of an order")
def _order_axis(node: Match) -> Iterator[Change]:
    axis, rank = node.attribute("axis"), node.rank()
    if node.is_op("ArgMax", "ArgMin", "TopK", "Concat", "Gather") and rank is not None and rank > 1:
        yield set_attribute("axis", (axis - 1) % rank if axis is not None else 0)


@kind("statistics over another axis")
def _norm_axis(node: Match) -> Iterator[Change]:
    axis, rank = node.attribute("axis"), node.rank()
    if node.is_op("LayerNormalization", "RMSNormalization") and rank is not None and axis % rank > 1:
        yield set_attribute("axis", axis % rank - 1)


@kind("two axes of a transpose exchanged")
def _perm(node: Match) -> Iterator[Change]:
    perm = node.get("perm")
    if node.is_op("Transpose") and perm is not None and len(perm) > 1:
        yield set_attribute("perm", [*perm[:-2], perm[-1], perm[-2]])


@kind("sequences from the other end")
def _direction(node: Match) -> Iterator[Change]:
    if node.is_op("LSTM", "GRU", "RNN") and node.attribute("direction") != "bidirectional":
        yield set_attribute("direction", "reverse" if node.attribute("direction") == "forward" else "forward")
