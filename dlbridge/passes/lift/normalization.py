"""Normalisations that exporters write out: Layer-, RMS-, Group- and InstanceNormalization.

A core is found first and becomes the op with a scale of ones; a multiplication and an addition behind it are then taken
in as its scale and bias.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from dlbridge.passes.lift.activation import is_monomial
from dlbridge.passes.lift.pattern import (
    Change,
    Lifter,
    all_equal,
    ints,
    is_weight,
    layer_path,
    operands,
    rule,
    sizes,
    with_scalar,
)
from dlbridge.passes.matching import Match, dtype_of, producer, rank, sole_producer, static_size, stored

_LAYER = ("LayerNormalization", "RMSNormalization")
_CHANNEL = ("GroupNormalization", "InstanceNormalization")


class Reduced(NamedTuple):
    """A value and the axes that it is averaged over."""

    x: ir.Value
    axes: list[int]


def _mean(value: ir.Value | None) -> Reduced | None:
    """(x, axes) of ReduceMean over known axes, kept."""
    node = producer(value, "ReduceMean", "GlobalAveragePool")
    size = None if node is None else node.rank()
    if node is None or size is None:
        return None
    if node.is_op("GlobalAveragePool"):  # as tf2onnx writes a mean over the last axes
        return Reduced(node.operand(0), list(range(2, size)))
    axes = ints(node.input(1))
    if axes is None or not node.integer("keepdims"):
        return None
    return Reduced(node.operand(0), sorted(axis % size for axis in axes))


def _deviation(value: ir.Value | None) -> Reduced | None:
    """(x, axes) of x - mean(x)."""
    node = producer(value, "Sub")
    mean = None if node is None else _mean(node.operand(1))
    return mean if node is not None and mean is not None and mean.x is node.operand(0) else None


def _square(value: ir.Value) -> ir.Value | None:
    """d of d * d."""
    node = producer(value, "Mul", "Pow")
    if node is None or not is_monomial(value, 1.0, {node.operand(0): 2}):
        return None
    return node.operand(0)


def _root(value: ir.Value | None) -> tuple[ir.Value, float] | None:
    """(v, epsilon) of sqrt(v + epsilon)."""
    node = producer(value, "Sqrt", "Pow")
    if node is None or (node.is_op("Pow") and _number(node.operand(1)) != 0.5):
        return None
    return with_scalar(producer(node.operand(0), "Add"))


def _number(value: ir.Value) -> float | None:
    """The one number of an initializer."""
    tensor = stored(value)
    return None if tensor is None or tensor.size != 1 else float(tensor.numpy().reshape(-1)[0])


def _inverse_root(value: ir.Value) -> tuple[ir.Value, float] | None:
    """(v, epsilon) of 1 / sqrt(v + epsilon)."""
    inverse = producer(value, "Reciprocal", "Div")
    if inverse is None:
        return None
    if inverse.is_op("Reciprocal"):
        return _root(inverse.operand(0))
    tensor = stored(inverse.operand(0))
    return _root(inverse.operand(1)) if tensor is not None and (tensor.numpy() == 1).all() else None


def _over_root(node: Match) -> tuple[ir.Value, ir.Value, float] | None:
    """(d, v, epsilon) of d / sqrt(v + epsilon), also as d * (1 / sqrt(v + epsilon))."""
    if node.is_op("Div"):
        root = _root(node.operand(1))
        return None if root is None else (node.operand(0), *root)
    for inverse, other in node.orders():
        root = _inverse_root(inverse)
        if root is not None:
            return other, *root
    return None


@rule("Div", "Mul")
def core(node: Match, to: Lifter) -> bool:
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon), and x / sqrt(mean(x^2) + epsilon), on the last axes."""
    found = _over_root(node)
    if found is None:
        return to.no(node, "it does not divide by sqrt(v + epsilon)")
    top, variance, epsilon = found
    spread = _mean(variance)
    base = None if spread is None else _square(spread.x)
    if spread is None or base is None:
        return to.no(node, "what is below the root is no mean of squares")
    deviation = _deviation(top)
    if deviation is not None and deviation.axes == spread.axes and (base is top or _deviation(base) == deviation):
        op_type, x = "LayerNormalization", deviation.x
    elif base is top:
        op_type, x = "RMSNormalization", top
    else:
        return to.no(node, "the squares are not of what is divided")
    normal = _last_sizes(x, spread.axes)
    if normal is None:
        return to.no(node, "the axes are not the last ones, of known sizes")
    dtype = dtype_of(x)
    ones = to.constant(f"{layer_path(node)}.ones", np.ones(normal, dtype.numpy()), dtype)
    return to.become(node, op_type, [x, ones], {"axis": -len(normal), "epsilon": epsilon})


@rule("Add")
def keras_layer(node: Match, to: Lifter) -> bool:
    """Keras' x s + (beta - mean s), where s = gamma / sqrt(variance + epsilon); without gamma or beta too."""
    for term, rest in node.orders():
        product = producer(term, "Mul")
        if product is None:
            continue
        shifted, beta = producer(rest, "Mul", "Sub"), None
        if shifted is None:
            add = producer(rest, "Add")
            found = None if add is None else operands(add, "Mul", "Neg")
            if found is None:
                continue
            shifted, beta = found
        for x, s in product.orders():
            if _is_shift(shifted, x, s) and _finish_keras(node, x, s, beta, to):
                return True
    return to.no(node, "it is not x s + (beta - mean s)")


def _is_shift(shifted: Match, x: ir.Value, s: ir.Value) -> bool:
    """Whether a value is -mean(x) s."""
    if not shifted.is_op("Mul"):
        return False
    for negated, other in shifted.orders():
        minus = producer(negated, "Neg")
        mean = None if minus is None else _mean(minus.operand(0))
        if mean is not None and mean.x is x and other is s:
            return True
    return False


def _finish_keras(node: Match, x: ir.Value, s: ir.Value, beta: ir.Value | None, to: Lifter) -> bool:
    gamma = None
    inverse = producer(s, "Reciprocal")
    if inverse is None:
        product = producer(s, "Mul")
        found = None if product is None else operands(product, "Reciprocal")
        if found is None:
            return to.no(node, "the factor is no gamma / sqrt(variance + epsilon)")
        inverse, gamma = found
    root = _root(inverse.operand(0))
    spread = None if root is None else _mean(root[0])
    base = None if spread is None else _square(spread.x)
    if root is None or spread is None or base is None or _deviation(base) != (x, spread.axes):
        return to.no(node, "what is below the root is no variance")
    normal = _last_sizes(x, spread.axes)
    if normal is None:
        return to.no(node, "the axes are not the last ones, of known sizes")
    if any(v is not None and (not is_weight(v) or _trailing(v) != normal) for v in (gamma, beta)):
        return to.no(node, "gamma or beta is no weight of the normalised sizes")
    path = layer_path(node, gamma)
    if gamma is None:
        dtype = dtype_of(x)
        gamma = to.constant(f"{path}.ones", np.ones(normal, dtype.numpy()), dtype)
    else:
        gamma = to.weight(gamma, f"{path}.weight", *_reshaped(gamma, normal))
    inputs = [x, gamma]
    if beta is not None:
        inputs.append(to.weight(beta, f"{path}.bias", *_reshaped(beta, normal)))
    facts = {"axis": -len(normal), "epsilon": root[1]}
    return to.become(node, "LayerNormalization", inputs, facts, path=path)


def _last_sizes(x: ir.Value, axes: list[int]) -> list[int] | None:
    """The sizes of these axes, where they are the last ones and of known sizes."""
    size = rank(x)
    if size is None or axes != list(range(axes[0], size)):
        return None
    found = [static_size(x, axis) for axis in axes]
    known = [one for one in found if one is not None]
    return known if len(known) == len(found) else None


def _trailing(weight: ir.Value) -> list[int]:
    """Sizes without the ones in front."""
    given = sizes(weight)
    while len(given) > 1 and given[0] == 1:
        given = given[1:]
    return given


def _reshaped(weight: ir.Value, shape: list[int]) -> tuple[Change | None, list[int]]:
    """What ``Lifter.weight`` needs to give a weight that shape."""
    return (None if sizes(weight) == shape else lambda a: a.reshape(shape)), shape


@rule("Mul")
def scale(node: Match, to: Lifter) -> bool:
    """A core times a weight of the normalised sizes (of the channels)."""
    found = operands(node, *_LAYER, *_CHANNEL)
    if found is None:
        return to.no(node, "no operand is a normalisation")
    norm, gamma = found
    idle = all_equal(norm.operand(1), 1) and _adds_nothing(norm)
    if sole_producer(norm.output) is None or not idle:
        return to.no(node, "the normalisation has a scale already, or something else reads it")
    return _take_weight(node, to, norm, 1, gamma)


def _take_weight(node: Match, to: Lifter, norm: Match, slot: int, weight: ir.Value) -> bool:
    """Let a normalisation and what scales or shifts it be one layer, with that weight as an input."""
    shape = _fits(norm, weight)
    if shape is None:
        return to.no(node, "the other operand is no weight of the normalised sizes")
    path = layer_path(node, weight if slot == 1 else norm.operand(1))
    held = to.weight(weight, f"{path}.{'weight' if slot == 1 else 'bias'}", *_reshaped(weight, shape))
    inputs = [*norm.node.inputs[:slot], held, *norm.node.inputs[slot + 1 :]]
    return to.become(node, norm.key, inputs, norm.attributes(), path=path, absorbs=[norm])


@rule("Add")
def bias(node: Match, to: Lifter) -> bool:
    """A normalisation plus a weight of the normalised sizes (of the channels)."""
    found = operands(node, "LayerNormalization", *_CHANNEL)
    if found is None:
        return to.no(node, "no operand is a normalisation")
    norm, beta = found
    if sole_producer(norm.output) is None or not _adds_nothing(norm):
        return to.no(node, "the normalisation has a bias already, or something else reads it")
    return _take_weight(node, to, norm, 2, beta)


def _adds_nothing(norm: Match) -> bool:
    """Whether a normalisation has no bias, or one of zeros."""
    return norm.input(2) is None or all_equal(norm.input(2), 0)


def _fits(norm: Match, weight: ir.Value) -> list[int] | None:
    """The shape that a scale or bias of a normalisation has, when this weight broadcasts as such a one."""
    size = norm.rank()
    if not is_weight(weight) or size is None:
        return None
    own, given = sizes(norm.operand(1)), sizes(weight)
    if norm.key in _CHANNEL:
        wide = [1, own[0]] + [1] * (size - 2)
    else:
        wide = [1] * (size - len(own)) + own
    return own if len(given) <= len(wide) and [1] * (len(wide) - len(given)) + given == wide else None


@rule("Reshape")
def group(node: Match, to: Lifter) -> bool:
    """torch's GroupNorm: reshape to (N, groups, -1), InstanceNormalization of ones and zeros, reshape back."""
    norm = sole_producer(node.operand(0), "InstanceNormalization")
    split = None if norm is None else producer(norm.operand(0), "Reshape")
    if norm is None or split is None or not all_equal(norm.operand(1), 1) or not all_equal(norm.operand(2), 0):
        return to.no(node, "it is not of an InstanceNormalization of ones and zeros of a Reshape")
    x = split.operand(0)
    channels, inside = static_size(x, 1), split.output.shape
    if x.shape is None or len(x.shape) < 3 or node.output.shape != x.shape or channels is None:
        return to.no(node, "the shape does not come back, or the number of channels is not known")
    groups = sizes(norm.operand(1))[0]
    if inside is None or inside[0] != x.shape[0] or channels % groups:
        return to.no(node, "the groups are not of channels")
    dtype = dtype_of(x)
    path = layer_path(node)
    ones = to.constant(f"{path}.ones", np.ones(channels, dtype.numpy()), dtype)
    zeros = to.constant(f"{path}.zeros", np.zeros(channels, dtype.numpy()), dtype)
    facts: dict[str, Any] = {"num_groups": groups, "epsilon": norm.number("epsilon")}
    if dtype == ir.DataType.DOUBLE:
        facts["stash_type"] = int(dtype)  # else the standard computes it in float32
    return to.become(node, "GroupNormalization", [x, ones, zeros], facts)
