"""Matrix products with a weight are ``Linear``; rows picked from a weight are ``Embedding``."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.ops import extension, traits
from dlbridge.ops.keys import is_op
from dlbridge.passes.lift.pattern import (
    KINDS_KNOWN,
    Lifter,
    attribute,
    inner,
    input_at,
    is_weight,
    layer_path,
    made_by,
    rule,
    sizes,
)
from dlbridge.passes.sizes import shape_of


def _swap(array: np.ndarray) -> np.ndarray:
    return array.T


@rule("MatMul")
def matmul(node: ir.Node, to: Lifter) -> bool:
    """X @ W, and X @ Transpose(W): Linear without bias."""
    x, w = node.inputs
    turned = made_by(w, "Transpose")
    if turned is not None and is_weight(turned.inputs[0], 2) and attribute(turned, "perm", (1, 0)) == (1, 0):
        weight = to.weight(turned.inputs[0], f"{layer_path(node)}.weight")
    elif is_weight(w, 2) and not _read_as_it_is(w):
        weight = _turned(w, node, to)
    else:
        return False
    return to.replace(node, "Linear", [x, weight], domain=extension.DOMAIN, path=layer_path(node, weight))


@rule("Gemm")
def gemm(node: ir.Node, to: Lifter) -> bool:
    """X @ W + B with W either way round."""
    x, w, b = node.inputs[0], node.inputs[1], input_at(node, 2)
    scaled = attribute(node, "alpha", 1.0) != 1.0 or (b is not None and attribute(node, "beta", 1.0) != 1.0)
    if scaled or attribute(node, "transA", 0) or not is_weight(w, 2):
        return False
    right_way = bool(attribute(node, "transB", 0))
    if not right_way and _read_as_it_is(w):
        return False
    out = sizes(w)[0 if right_way else 1]
    if b is not None and not _is_bias(b, out, 2):
        return False
    path = layer_path(node)
    weight = to.weight(w, f"{path}.weight") if right_way else _turned(w, node, to)
    path = layer_path(node, weight)
    inputs = [x, weight] if b is None else [x, weight, _bias(b, path, out, to)]
    return to.replace(node, "Linear", inputs, domain=extension.DOMAIN, path=path)


@rule("Add")
def add_bias(node: ir.Node, to: Lifter) -> bool:
    """Linear without bias, then + B."""
    for this, other in ((0, 1), (1, 0)):
        linear, b = inner(node.inputs[this], "Linear"), node.inputs[other]
        if linear is None or len(linear.inputs) != 2:
            continue
        weight = linear.inputs[1]
        if weight.const_value is None:  # a matrix that is computed
            continue
        if weight.const_value is None:  # it is computed
            continue
        x, out = linear.inputs[0], sizes(weight)[0]
        if x.shape is None or not _is_bias(b, out, len(x.shape)):
            continue
        inputs = [x, weight, _bias(b, linear.name, out, to)]
        return to.replace(node, "Linear", inputs, domain=extension.DOMAIN, path=linear.name, absorbs=[linear])
    return False


@rule("Reshape")
def linear_of_rows(node: ir.Node, to: Lifter) -> bool:
    """Reshape to rows, Linear, reshape back: Linear on the last axis, as Keras' Dense means it."""
    linear = inner(node.inputs[0], "Linear")
    rows = made_by(linear.inputs[0], "Reshape") if linear is not None else None
    if rows is None:
        return False
    x, result, flat = shape_of(rows.inputs[0]), shape_of(node.outputs[0]), shape_of(rows.outputs[0])
    if x is None or result is None or flat is None or None in (*x, *result, *flat) or len(flat) != 2:
        return False
    if x[-1] != flat[-1] or x[:-1] != result[:-1] or result[-1] != shape_of(linear.inputs[1])[0]:
        return False
    inputs = [rows.inputs[0], *list(linear.inputs)[1:]]
    return to.replace(node, "Linear", inputs, domain=extension.DOMAIN, path=linear.name, absorbs=[linear])


@rule("Gather")
def embedding(node: ir.Node, to: Lifter) -> bool:
    """Rows of a weight, picked by computed indices."""
    w, indices = node.inputs
    if attribute(node, "axis", 0) != 0 or not is_weight(w, 2) or indices.is_initializer():
        return False
    weight = to.weight(w, f"{layer_path(node)}.weight")
    return to.replace(node, "Embedding", [indices, weight], domain=extension.DOMAIN, path=layer_path(node, weight))


def _read_as_it_is(w: ir.Value) -> bool:
    """Whether something other than X @ W reads a weight, so that it cannot be turned for all."""
    return (
        any(not (use.idx == 1 and (is_op(use.node, "MatMul") or _plain_gemm(use.node))) for use in w.uses())
        or w.is_graph_output()
    )


def _plain_gemm(node: ir.Node) -> bool:
    return is_op(node, "Gemm") and not attribute(node, "transB", 0)


def _turned(w: ir.Value, node: ir.Node, to: Lifter) -> ir.Value:
    """The weight as (out, in), for all who read it; that a module holds it as (in, out) is kept in mind."""
    turned = to.weight(w, f"{layer_path(node)}.weight", _swap, shape=sizes(w)[::-1])
    if node.graph is not None and node.graph.meta.get(KINDS_KNOWN):
        turned.metadata_props[traits.TRANSPOSED] = "true"
    return turned


def _is_bias(b: ir.Value, out: int, rank: int) -> bool:
    return is_weight(b) and sizes(b)[-1:] == [out] and b.const_value.size == out and len(sizes(b)) <= max(rank, 1)


def _bias(b: ir.Value, path: str, out: int, to: Lifter) -> ir.Value:
    flat = None if len(sizes(b)) == 1 else _flatten
    return to.weight(b, f"{path}.bias", flat, shape=[out])


def _flatten(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1)
