"""Normalisations that exporters write out: Layer-, RMS-, Group- and InstanceNormalization.

A core is found first and becomes the op with a scale of ones; a multiplication and an addition behind it are then taken
in as its scale and bias.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.ops.keys import is_op, op_key
from dlbridge.passes.lift.activation import is_monomial
from dlbridge.passes.lift.pattern import (
    Lifter,
    array,
    attribute,
    inner,
    input_at,
    ints,
    is_constant,
    is_weight,
    layer_path,
    made_by,
    operands,
    rank,
    rule,
    sizes,
    with_scalar,
)

_LAYER = ("LayerNormalization", "RMSNormalization")
_CHANNEL = ("GroupNormalization", "InstanceNormalization")


def _mean(value: ir.Value | None) -> tuple[ir.Value, list[int]] | None:
    """(x, axes) of ReduceMean over known axes, kept."""
    node = made_by(value, "ReduceMean", "GlobalAveragePool")
    if node is not None and is_op(node, "GlobalAveragePool"):  # as tf2onnx writes a mean over the last axes
        size = rank(node.inputs[0])
        return (node.inputs[0], list(range(2, size))) if size is not None else None
    axes = ints(input_at(node, 1)) if node is not None else None
    if axes is None or not attribute(node, "keepdims", 1) or rank(node.inputs[0]) is None:
        return None
    return node.inputs[0], sorted(axis % rank(node.inputs[0]) for axis in axes)


def _deviation(value: ir.Value | None) -> tuple[ir.Value, list[int]] | None:
    """(x, axes) of x - mean(x)."""
    node = made_by(value, "Sub")
    mean = _mean(node.inputs[1]) if node is not None else None
    return mean if mean is not None and mean[0] is node.inputs[0] else None


def _square(value: ir.Value) -> ir.Value | None:
    """d of d * d."""
    node = made_by(value, "Mul", "Pow")
    if node is None or not is_monomial(value, 1.0, {node.inputs[0]: 2}):
        return None
    return node.inputs[0]


def _root(value: ir.Value | None) -> tuple[ir.Value, float] | None:
    """(v, epsilon) of sqrt(v + epsilon)."""
    node = made_by(value, "Sqrt")
    if node is None:
        power = made_by(value, "Pow")
        node = (
            power
            if power is not None and array(power.inputs[1]) is not None and array(power.inputs[1]) == 0.5
            else None
        )
    add = made_by(node.inputs[0], "Add") if node is not None else None
    return with_scalar(add) if add is not None else None


def _over_root(node: ir.Node) -> tuple[ir.Value, ir.Value, float] | None:
    """(d, v, epsilon) of d / sqrt(v + epsilon), also as d * (1 / sqrt(v + epsilon))."""
    if is_op(node, "Div"):
        root = _root(node.inputs[1])
        return (node.inputs[0], *root) if root is not None else None
    for this, other in ((0, 1), (1, 0)):
        inverse = made_by(node.inputs[this], "Reciprocal", "Div")
        if inverse is None or (
            is_op(inverse, "Div") and (array(inverse.inputs[0]) is None or (array(inverse.inputs[0]) != 1).any())
        ):
            continue
        root = _root(inverse.inputs[-1])
        if root is not None:
            return node.inputs[other], *root
    return None


@rule("Div", "Mul")
def core(node: ir.Node, to: Lifter) -> bool:
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon), and x / sqrt(mean(x^2) + epsilon), on the last axes."""
    found = _over_root(node)
    spread = _mean(found[1]) if found is not None else None
    base = _square(spread[0]) if spread is not None else None
    if base is None:
        return False
    top, _, epsilon = found
    deviation = _deviation(top)
    if deviation is not None and deviation[1] == spread[1] and (base is top or _deviation(base) == deviation):
        op_type, x, axes = "LayerNormalization", *deviation
    elif base is top:
        op_type, x, axes = "RMSNormalization", top, spread[1]
    else:
        return False
    if not _are_last(x, axes):
        return False
    normal = list(x.shape)[axes[0] :]
    ones = to.constant(f"{layer_path(node)}.ones", np.ones(normal, x.dtype.numpy()))
    axis = axes[0] - rank(x)
    return to.replace(node, op_type, [x, ones], {"axis": axis, "epsilon": epsilon})


@rule("Add")
def keras_layer(node: ir.Node, to: Lifter) -> bool:
    """Keras' x s + (beta - mean s), where s = gamma / sqrt(variance + epsilon); without gamma or beta too."""
    for this, other in ((0, 1), (1, 0)):
        product, rest = made_by(node.inputs[this], "Mul"), node.inputs[other]
        if product is None:
            continue
        shifted, beta = made_by(rest, "Mul", "Sub"), None
        if shifted is None:
            add = made_by(rest, "Add")
            found = operands(add, "Mul", "Neg") if add is not None else None
            if found is None:
                continue
            shifted, beta = found
        for x, s in (product.inputs, reversed(product.inputs)):
            if _is_shift(shifted, x, s) and _finish_keras(node, x, s, beta, to):
                return True
    return False


def _is_shift(shifted: ir.Node, x: ir.Value, s: ir.Value) -> bool:
    """Whether a value is -mean(x) s."""
    for this, other in ((0, 1), (1, 0)):
        minus = made_by(shifted.inputs[this], "Neg") if is_op(shifted, "Mul") else None
        mean = _mean(minus.inputs[0]) if minus is not None else None
        if mean is not None and mean[0] is x and shifted.inputs[other] is s:
            return True
    return False


def _finish_keras(node: ir.Node, x: ir.Value, s: ir.Value, beta: ir.Value | None, to: Lifter) -> bool:
    gamma = None
    inverse = made_by(s, "Reciprocal")
    if inverse is None:
        found = operands(made_by(s, "Mul"), "Reciprocal") if made_by(s, "Mul") is not None else None
        if found is None:
            return False
        inverse, gamma = found
    root = _root(inverse.inputs[0])
    spread = _mean(root[0]) if root is not None else None
    base = _square(spread[0]) if spread is not None else None
    if base is None or _deviation(base) != (x, spread[1]) or not _are_last(x, spread[1]):
        return False
    normal = list(x.shape)[spread[1][0] :]
    if any(v is not None and (not is_weight(v) or _trailing(v) != normal) for v in (gamma, beta)):
        return False
    path = layer_path(node, gamma)
    if gamma is None:
        gamma = to.constant(f"{path}.ones", np.ones(normal, x.dtype.numpy()))
    else:
        gamma = to.weight(gamma, f"{path}.weight", *_reshaped(gamma, normal))
    inputs = [x, gamma]
    if beta is not None:
        inputs.append(to.weight(beta, f"{path}.bias", *_reshaped(beta, normal)))
    facts = {"axis": spread[1][0] - rank(x), "epsilon": root[1]}
    return to.replace(node, "LayerNormalization", inputs, facts, path=path)


def _are_last(x: ir.Value, axes: list[int]) -> bool:
    """Whether axes are the last ones, of known sizes."""
    last = axes == list(range(axes[0], rank(x)))
    return last and all(isinstance(size, int) for size in list(x.shape)[axes[0] :])


def _trailing(weight: ir.Value) -> list[int]:
    """Sizes without the ones in front."""
    given = sizes(weight)
    while len(given) > 1 and given[0] == 1:
        given = given[1:]
    return given


def _reshaped(weight: ir.Value, shape: list[int]) -> tuple:
    """What ``Lifter.weight`` needs to give a weight that shape."""
    return () if sizes(weight) == shape else (lambda a: a.reshape(shape), shape)


@rule("Mul")
def scale(node: ir.Node, to: Lifter) -> bool:
    """A core times a weight of the normalised sizes (of the channels)."""
    found = operands(node, *_LAYER, *_CHANNEL)
    if found is None:
        return False
    norm, gamma = found
    if inner(norm.outputs[0], op_key(norm)) is None or not _all(norm.inputs[1], 1) or not _all(input_at(norm, 2), 0):
        return False
    shape = _fits(norm, gamma)
    if shape is None:
        return False
    path = layer_path(node, gamma)
    weight = to.weight(gamma, f"{path}.weight", *_reshaped(gamma, shape))
    inputs = [norm.inputs[0], weight, *list(norm.inputs)[2:]]
    return to.replace(node, op_key(norm), inputs, norm.attributes, path=path, absorbs=[norm])


@rule("Add")
def bias(node: ir.Node, to: Lifter) -> bool:
    """A normalisation plus a weight of the normalised sizes (of the channels)."""
    found = operands(node, "LayerNormalization", *_CHANNEL)
    if found is None:
        return False
    norm, beta = found
    if inner(norm.outputs[0], op_key(norm)) is None or not _all(input_at(norm, 2), 0):
        return False
    shape = _fits(norm, beta)
    if shape is None:
        return False
    path = layer_path(node, norm.inputs[1])
    weight = to.weight(beta, f"{path}.bias", *_reshaped(beta, shape))
    inputs = [norm.inputs[0], norm.inputs[1], weight]
    return to.replace(node, op_key(norm), inputs, norm.attributes, path=path, absorbs=[norm])


def _all(value: ir.Value | None, number: float) -> bool:
    """Whether a scale or bias does nothing, or is not there."""
    return value is None or (is_constant(value) and bool((array(value) == number).all()))


def _fits(norm: ir.Node, weight: ir.Value) -> list[int] | None:
    """The shape that a scale or bias of a normalisation has, when this weight broadcasts as such a one."""
    if not is_weight(weight) or rank(norm.inputs[0]) is None:
        return None
    own, given = sizes(norm.inputs[1]), sizes(weight)
    if op_key(norm) in _CHANNEL:
        wide = [1, own[0]] + [1] * (rank(norm.inputs[0]) - 2)
    else:
        wide = [1] * (rank(norm.inputs[0]) - len(own)) + own
    return own if len(given) <= len(wide) and [1] * (len(wide) - len(given)) + given == wide else None


@rule("Reshape")
def group(node: ir.Node, to: Lifter) -> bool:
    """torch's GroupNorm: reshape to (N, groups, -1), InstanceNormalization of ones and zeros, reshape back."""
    norm = inner(node.inputs[0], "InstanceNormalization")
    split = made_by(norm.inputs[0], "Reshape") if norm is not None else None
    if split is None or not _all(norm.inputs[1], 1) or not _all(norm.inputs[2], 0):
        return False
    x = split.inputs[0]
    if x.shape is None or rank(x) < 3 or node.outputs[0].shape != x.shape or not isinstance(x.shape[1], int):
        return False
    groups, inside = sizes(norm.inputs[1])[0], split.outputs[0].shape
    if inside is None or inside[0] != x.shape[0] or x.shape[1] % groups:
        return False
    dtype = x.dtype.numpy()
    ones = to.constant(f"{layer_path(node)}.ones", np.ones(x.shape[1], dtype))
    zeros = to.constant(f"{layer_path(node)}.zeros", np.zeros(x.shape[1], dtype))
    facts = {"num_groups": groups, "epsilon": attribute(norm, "epsilon", 1e-5)}
    if x.dtype == ir.DataType.DOUBLE:
        facts["stash_type"] = int(x.dtype)  # else the standard computes it in float32
    return to.replace(node, "GroupNormalization", [x, ones, zeros], facts)
