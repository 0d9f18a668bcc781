"""softmax(scale Q K^T + mask) V is ``Attention``, with keys and values of fewer heads where they are repeated."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dlbridge.ops.keys import is_op
from dlbridge.passes.fold import reshape_target
from dlbridge.passes.lift.pattern import Lifter, attribute, inner, made_by, rank, rule, scalar
from dlbridge.passes.sizes import shape_of


@rule("MatMul")
def attention(node: ir.Node, to: Lifter) -> bool:
    """Queries, keys and values of shape (batch, heads, length, size); scales anywhere, a mask that is added."""
    softmax, v = _weights(node.inputs[0]), node.inputs[1]
    if softmax is None or rank(v) != 4 or attribute(softmax, "axis", -1) not in (-1, 3):
        return False
    scores, mask = softmax.inputs[0], None
    add = inner(scores, "Add")
    if add is not None:
        scored = [slot for slot in (0, 1) if made_by(_unscaled(add.inputs[slot])[0], "MatMul")]
        if len(scored) != 1:
            return False
        scores, mask = add.inputs[scored[0]], add.inputs[1 - scored[0]]
        if rank(mask) not in (2, 3, 4) or mask.dtype != v.dtype:
            return False
    scores, factor = _unscaled(scores)
    product = inner(scores, "MatMul")
    if product is None or rank(product.inputs[0]) != 4 or rank(product.inputs[1]) != 4:
        return False
    q, by_q = _unscaled(product.inputs[0])
    turned, by_k = _unscaled(product.inputs[1])
    if not _fit(q, turned, v, mask):
        return False
    k, inside = _turn_back(turned, node, to)
    inputs = [q, k, v] if mask is None else [q, k, v, mask]
    scale, size = factor * by_q * by_k * inside, q.shape[3]
    usual = isinstance(size, int) and math.isclose(scale, size**-0.5, rel_tol=1e-6)
    return to.replace(node, "Attention", inputs, {} if usual else {"scale": scale})


def _weights(value: ir.Value) -> ir.Node | None:
    """The softmax that makes the weights, also as torch.onnx guards it: 0 where a row is masked whole, which the
    softmax makes NaN, as PyTorch's own attention has it."""
    guard = inner(value, "Where")
    if guard is None:
        return inner(value, "Softmax")
    asked, softmax = made_by(guard.inputs[0], "IsNaN"), made_by(guard.inputs[2], "Softmax")
    if asked is None or softmax is None or scalar(guard.inputs[1]) != 0 or asked.inputs[0] is not guard.inputs[2]:
        return None
    readers = {use.node for use in guard.inputs[2].uses()}
    alone = readers == {asked, guard} and not guard.inputs[2].is_graph_output()
    return softmax if alone and inner(guard.inputs[0], "IsNaN") is asked else None


@rule("Attention")
def grouped_heads(node: ir.Node, to: Lifter) -> bool:
    """Keys and values whose heads are repeated for the queries of a group: Attention does that itself."""
    if len(node.inputs) > 4 or len(node.outputs) > 1 or rank(node.inputs[0]) != 4:
        return False
    k, v = (_repeated(value) for value in node.inputs[1:3])
    if k is None or v is None or shape_of(k)[1] != shape_of(v)[1]:
        return False
    return to.replace(node, "Attention", [node.inputs[0], k, v, *node.inputs[3:]], node.attributes, path=node.name)


def _repeated(value: ir.Value) -> ir.Value | None:
    """x of (batch, heads, length, size), when a value is x with each head repeated: Unsqueeze, Expand, Reshape."""
    reshape = made_by(value, "Reshape")
    while reshape is not None and made_by(reshape.inputs[0], "Reshape") is not None:
        reshape = reshape.inputs[0].producer()
    wide = made_by(reshape.inputs[0], "Expand") if reshape is not None else None
    apart = made_by(wide.inputs[0], "Unsqueeze", "Reshape") if wide is not None else None
    if apart is None:
        return None
    x, one, many, flat = (shape_of(v) for v in (apart.inputs[0], apart.outputs[0], wide.outputs[0], value))
    if any(shape is None or None in shape for shape in (x, one, many, flat)) or [len(x), len(many)] != [4, 5]:
        return None
    heads, groups, all_heads = (size.number for size in (x[1], many[2], flat[1]))
    if None in (heads, groups, all_heads) or heads * groups != all_heads or len(one) != 5 or one[2].number != 1:
        return None
    kept = [shape[:2] + shape[3:] for shape in (one, many)] + [flat[:1] + x[1:2] + flat[2:]]
    return apart.inputs[0] if all(sizes == x for sizes in kept) else None


def _unscaled(value: ir.Value) -> tuple[ir.Value, float]:
    """(x, c) of c * x and x / c; (value, 1) of any other."""
    node = made_by(value, "Mul", "Div")
    if node is None:
        return value, 1.0
    right, left = scalar(node.inputs[1]), scalar(node.inputs[0])
    if right is not None and right != 0:
        x, c = _unscaled(node.inputs[0])
        return x, c * right if is_op(node, "Mul") else c / right
    if left is not None and is_op(node, "Mul"):
        x, c = _unscaled(node.inputs[1])
        return x, c * left
    return value, 1.0


def _fit(q: ir.Value, turned: ir.Value, v: ir.Value, mask: ir.Value | None) -> bool:
    """Whether batch and heads are the same everywhere, as Attention asks (MatMul would broadcast them)."""
    shapes = [shape_of(value) for value in (q, turned, v)]
    if any(shape is None or None in shape[:2] for shape in shapes):
        return False
    if any(shape[:2] != shapes[0][:2] for shape in shapes):
        return False
    if mask is None:
        return True
    wanted, given = [*shapes[0][:3], shapes[1][3]], shape_of(mask)
    ends = zip(reversed(wanted), reversed(given), strict=False)
    return all(have is not None and (have.number == 1 or have == want) for want, have in ends)


def _turn_back(turned: ir.Value, node: ir.Node, to: Lifter) -> tuple[ir.Value, float]:
    """(K, c) of (c K)^T: what was transposed, or K^T transposed again."""
    swap = made_by(turned, "Transpose")
    if swap is not None and rank(swap.inputs[0]) == 4:
        perm = list(attribute(swap, "perm"))
        perm = [perm[0], perm[1], perm[3], perm[2]]
        k, factor = _unscaled(swap.inputs[0])
        if perm != [0, 1, 2, 3]:
            k = _shaped(to.op(node, "Transpose", "keys", [k], perm=perm), turned)
        return k, factor
    whole = _of_one_batch(turned)
    if whole is not None:
        given = shape_of(turned)
        sizes = reshape_target([given[0], given[1], given[3], given[2]], shape_of(whole))
        if sizes is not None:
            target = to.constant(f"{node.name}.keys.sizes", np.asarray(sizes, np.int64))
            return _shaped(to.op(node, "Reshape", "keys", [whole, target]), turned), 1.0
    return _shaped(to.op(node, "Transpose", "keys", [turned], perm=[0, 1, 3, 2]), turned), 1.0


def _of_one_batch(turned: ir.Value) -> ir.Value | None:
    """x, when K^T is x as (batch * heads, length, size), transposed, as (batch, heads, size, length): torch's way."""
    whole = made_by(turned, "Reshape")
    swap = made_by(whole.inputs[0], "Transpose") if whole is not None else None
    if swap is None or tuple(attribute(swap, "perm", ())) != (0, 2, 1):
        return None
    given, flat = shape_of(turned), shape_of(swap.outputs[0])
    if given is None or flat is None or flat[1:] != given[2:] or None in given:
        return None
    part = made_by(swap.inputs[0], "Reshape")
    return part.inputs[0] if part is not None else swap.inputs[0]


def _shaped(k: ir.Value, turned: ir.Value) -> ir.Value:
    b, h, size, length = turned.shape
    k.shape = ir.Shape([b, h, length, size])
    return k
