"""Matrix products with a weight are ``Linear``; rows picked from a weight are ``Embedding``."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.ops import extension, traits
from dlbridge.passes.lift.pattern import KINDS_KNOWN, Lifter, is_weight, layer_path, rule, sizes
from dlbridge.passes.matching import Match, match, producer, rank, sole_producer
from dlbridge.passes.sizes import shape_of


def _swap(array: np.ndarray) -> np.ndarray:
    return array.T


@rule("MatMul")
def matmul(node: Match, to: Lifter) -> bool:
    """X @ W, and X @ Transpose(W): Linear without bias."""
    x, w = node.operand(0), node.operand(1)
    turned = producer(w, "Transpose")
    if turned is not None and is_weight(turned.operand(0), 2) and turned.ints("perm") in (None, [1, 0]):
        weight = to.weight(turned.operand(0), f"{layer_path(node)}.weight")
    elif is_weight(w, 2) and not _read_as_it_is(w):
        weight = _turned(w, node, to)
    else:
        return to.no(node, "the right operand is no matrix of weights that matrix products alone read")
    return to.become(node, "Linear", [x, weight], domain=extension.DOMAIN, path=layer_path(node, weight))


@rule("Gemm")
def gemm(node: Match, to: Lifter) -> bool:
    """X @ W + B with W either way round."""
    x, w, b = node.operand(0), node.operand(1), node.input(2)
    scaled = node.number("alpha") != 1.0 or (b is not None and node.number("beta") != 1.0)
    if scaled or node.integer("transA") or not is_weight(w, 2):
        return to.no(node, "it scales, transposes the left operand, or the right one is no matrix of weights")
    right_way = bool(node.integer("transB"))
    if not right_way and _read_as_it_is(w):
        return to.no(node, "something else reads the weight as it is")
    out = sizes(w)[0 if right_way else 1]
    if b is not None and not _is_bias(b, out, 2):
        return to.no(node, "what is added is no bias")
    path = layer_path(node)
    weight = to.weight(w, f"{path}.weight") if right_way else _turned(w, node, to)
    path = layer_path(node, weight)
    inputs = [x, weight]
    if b is not None:
        inputs.append(_bias(b, path, out, to))
    return to.become(node, "Linear", inputs, domain=extension.DOMAIN, path=path)


@rule("Add")
def add_bias(node: Match, to: Lifter) -> bool:
    """Linear without bias, then + B."""
    for product, b in node.orders():
        linear = sole_producer(product, "Linear")
        if linear is None or linear.input(2) is not None:
            continue
        x, weight = linear.operand(0), linear.operand(1)
        size = rank(x)
        if weight.const_value is None or size is None:  # a matrix that is computed
            continue
        out = sizes(weight)[0]
        if not _is_bias(b, out, size):
            continue
        inputs = [x, weight, _bias(b, linear.name, out, to)]
        return to.become(node, "Linear", inputs, domain=extension.DOMAIN, path=linear.name, absorbs=[linear])
    return to.no(node, "no operand is a Linear without bias, with a bias beside it")


@rule("Reshape")
def linear_of_rows(node: Match, to: Lifter) -> bool:
    """Reshape to rows, Linear, reshape back: Linear on the last axis, as Keras' Dense means it."""
    linear = sole_producer(node.operand(0), "Linear")
    rows = None if linear is None else producer(linear.operand(0), "Reshape")
    if linear is None or rows is None:
        return to.no(node, "it is not of a Linear of a Reshape")
    x, result, flat = shape_of(rows.operand(0)), shape_of(node.output), shape_of(rows.output)
    weight = shape_of(linear.operand(1))
    if x is None or result is None or flat is None or weight is None or None in (*x, *result, *flat):
        return to.no(node, "the shapes are not known")
    if len(flat) != 2 or x[-1] != flat[-1] or x[:-1] != result[:-1] or result[-1] != weight[0]:
        return to.no(node, "the axes before the last do not come back")
    inputs = [rows.operand(0), *linear.operands[1:]]
    return to.become(node, "Linear", inputs, domain=extension.DOMAIN, path=linear.name, absorbs=[linear])


@rule("Gather")
def embedding(node: Match, to: Lifter) -> bool:
    """Rows of a weight, picked by computed indices."""
    w, indices = node.operand(0), node.operand(1)
    if node.integer("axis") != 0 or not is_weight(w, 2) or indices.is_initializer():
        return to.no(node, "it does not pick rows of a matrix of weights by computed indices")
    weight = to.weight(w, f"{layer_path(node)}.weight")
    return to.become(node, "Embedding", [indices, weight], domain=extension.DOMAIN, path=layer_path(node, weight))


def _read_as_it_is(w: ir.Value) -> bool:
    """Whether something other than X @ W reads a weight, so that it cannot be transposed for all readers."""
    plain = [use.idx == 1 and (match(use.node, "MatMul") or match(use.node, "Gemm", transB=0)) for use in w.uses()]
    return not all(plain) or w.is_graph_output()


def _turned(w: ir.Value, node: Match, to: Lifter) -> ir.Value:
    """The weight transposed to (out, in) for all its readers; it is recorded that a module holds it as (in, out)."""
    turned = to.weight(w, f"{layer_path(node)}.weight", _swap, shape=sizes(w)[::-1])
    if node.graph.meta.get(KINDS_KNOWN):
        traits.mark(turned, traits.TRANSPOSED)
    return turned


def _is_bias(b: ir.Value, out: int, rank: int) -> bool:
    """Whether a value is a vector of weights of that size, with axes of size 1 before it or none."""
    if not is_weight(b):
        return False
    given = sizes(b)
    return given == [*[1] * (len(given) - 1), out] and len(given) <= max(rank, 1)


def _bias(b: ir.Value, path: str, out: int, to: Lifter) -> ir.Value:
    change = None if len(sizes(b)) == 1 else _flatten
    return to.weight(b, f"{path}.bias", change, shape=[out])


def _flatten(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1)
