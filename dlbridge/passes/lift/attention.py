"""softmax(scale Q K^T + mask) V is ``Attention``, with keys and values of fewer heads where they are repeated."""

from __future__ import annotations

import math

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.passes.lift.pattern import Lifter, rule, scalar
from dlbridge.passes.matching import Match, is_read, producer, rank, sole_producer, static_size
from dlbridge.passes.reshaping import reshape_target
from dlbridge.passes.sizes import Size, known_shape, shape_of


@rule("MatMul")
def attention(node: Match, to: Lifter) -> bool:
    """Queries, keys and values of shape (batch, heads, length, size); scales anywhere, a mask that is added."""
    weights, dropout = _kept(node.operand(0))
    softmax, v = _softmax(weights), node.operand(1)
    if softmax is None or rank(v) != 4 or softmax.integer("axis") not in (-1, 3):
        return to.no(node, "the left operand is no softmax along the last of four axes that nothing else reads")
    scores, mask = softmax.operand(0), None
    add = sole_producer(scores, "Add")
    if add is not None:
        found = [(s, m) for s, m in add.orders() if producer(_unscaled(_uncapped(s)[0])[0], "MatMul") is not None]
        if len(found) != 1:
            return to.no(node, "it is not clear which term of the sum is the mask")
        scores, mask = found[0]
        if rank(mask) not in (2, 3, 4) or mask.dtype != v.dtype:
            return to.no(node, "the mask has another type than the values, or one axis alone")
    scores, cap = _uncapped(scores)
    scores, factor = _unscaled(scores)
    product = sole_producer(scores, "MatMul")
    if product is None or product.rank(0) != 4 or product.rank(1) != 4:
        return to.no(node, "the scores are no product along four axes that nothing else reads")
    q, by_q = _unscaled(product.operand(0))
    turned, by_k = _unscaled(product.operand(1))
    if not _fit(q, turned, v, mask):
        return to.no(node, "batch or heads are not known to be the same everywhere")
    k, inside = _turn_back(turned, node, to)
    inputs = [q, k, v] if mask is None else [q, k, v, mask]
    scale, size = factor * by_q * by_k * inside, static_size(q, 3)
    usual = size is not None and math.isclose(scale, size**-0.5, rel_tol=1e-6)
    capped = {} if cap is None else {"softcap": cap}
    traits.set_dropout(node.node, dropout)
    return to.become(node, "Attention", inputs, capped if usual else {"scale": scale, **capped})


def _uncapped(value: ir.Value) -> tuple[ir.Value, float | None]:
    """(x, c) of c * tanh(x / c), which keeps scores between -c and c; (value, None) for any other value."""
    times = sole_producer(value, "Mul")
    for one, other in times.orders() if times is not None else ():
        cap, tanh = scalar(other), sole_producer(one, "Tanh")
        if cap is None or cap <= 0 or tanh is None:
            continue
        within = tanh.operand(0)
        x, factor = _factored(sole_producer(within, "Mul", "Div")) or (within, 1.0)
        if math.isclose(factor * cap, 1.0, rel_tol=1e-6):
            return x, cap
    return value, None


def _factored(node: Match | None) -> tuple[ir.Value, float] | None:
    """(x, c) of a node that computes c * x or x / c; None for any other node."""
    if node is None:
        return None
    right = scalar(node.operand(1))
    if right is not None and right != 0:
        return node.operand(0), right if node.is_op("Mul") else 1 / right
    left = scalar(node.operand(0)) if node.is_op("Mul") else None
    return None if left is None else (node.operand(1), left)


def _kept(value: ir.Value) -> tuple[ir.Value, float]:
    """(x, p) of weights x of which a Dropout drops the part p in training.

    A module that somebody has named stays as it is, but where it drops nothing.
    """
    dropout = sole_producer(value, "Dropout")
    if dropout is None or dropout.input(2) is not None or any(map(is_read, dropout.node.outputs[1:])):
        return value, 0.0
    held = None if dropout.input(1) is None else dropout.constant_array(1)
    if held is None:
        return value, 0.0
    ratio = float(str(held.reshape(-1)[0]))  # 0.1, of float32
    return (value, 0.0) if ratio and not traits.is_anonymous(dropout.node) else (dropout.operand(0), ratio)


def _softmax(value: ir.Value) -> Match | None:
    """The softmax that computes the weights, with or without the guard of torch.onnx: PyTorch's own attention gives 0
    for a row that is masked completely, where a softmax gives NaN."""
    guard = sole_producer(value, "Where")
    if guard is None:
        return sole_producer(value, "Softmax")
    plain = guard.operand(2)
    asked, softmax = sole_producer(guard.operand(0), "IsNaN"), producer(plain, "Softmax")
    if asked is None or softmax is None or scalar(guard.operand(1)) != 0 or asked.operand(0) is not plain:
        return None
    readers = {use.node for use in plain.uses()}
    return softmax if readers == {asked.node, guard.node} and not plain.is_graph_output() else None


@rule("Attention")
def grouped_heads(node: Match, to: Lifter) -> bool:
    """Keys and values whose heads are repeated for the queries of a group: Attention does that itself."""
    if len(node.node.inputs) > 4 or len(node.node.outputs) > 1 or node.rank(0) != 4:
        return to.no(node, "it has a cache, or its heads are not an axis of their own")
    k, v = _repeated(node.operand(1)), _repeated(node.operand(2))
    if k is None or v is None or _heads(k) != _heads(v):
        return to.no(node, "keys and values are not repeated alike")
    inputs = [node.operand(0), k, v, *node.node.inputs[3:]]
    path = None if traits.is_anonymous(node.node) else node.name
    return to.become(node, "Attention", inputs, node.attributes(), path=path)


def _heads(value: ir.Value) -> Size | None:
    sizes = shape_of(value)
    return None if sizes is None else sizes[1]


def _repeated(value: ir.Value) -> ir.Value | None:
    """x of (batch, heads, length, size), when a value is x with each head repeated: Unsqueeze, Expand, Reshape."""
    reshape = producer(value, "Reshape")
    while reshape is not None:
        before = producer(reshape.operand(0), "Reshape")
        if before is None:
            break
        reshape = before
    wide = None if reshape is None else producer(reshape.operand(0), "Expand")
    apart = None if wide is None else producer(wide.operand(0), "Unsqueeze", "Reshape")
    if wide is None or apart is None:
        return None
    source = apart.operand(0)
    x, one, many, flat = (known_shape(v) for v in (source, apart.output, wide.output, value))
    if x is None or one is None or many is None or flat is None or (len(x), len(one), len(many)) != (4, 5, 5):
        return None
    heads, groups, all_heads = x[1].number, many[2].number, flat[1].number
    if heads is None or groups is None or heads * groups != all_heads or one[2].number != 1:
        return None
    kept = [one[:2] + one[3:], many[:2] + many[3:], [flat[0], x[1], *flat[2:]]]
    return source if all(sizes == x for sizes in kept) else None


def _unscaled(value: ir.Value) -> tuple[ir.Value, float]:
    """(x, c) of c * x and x / c, and of products of these; (value, 1) of any other."""
    factor = 1.0
    while (found := _factored(producer(value, "Mul", "Div"))) is not None:
        value, by = found
        factor *= by
    return value, factor


def _fit(q: ir.Value, turned: ir.Value, v: ir.Value, mask: ir.Value | None) -> bool:
    """Whether batch and heads are the same everywhere, as Attention asks (MatMul would broadcast them)."""
    queries, keys, values = shape_of(q), shape_of(turned), shape_of(v)
    if queries is None or keys is None or values is None or None in queries[:2]:
        return False
    if keys[:2] != queries[:2] or values[:2] != queries[:2]:
        return False
    if mask is None:
        return True
    wanted, given = [*queries[:3], keys[3]], shape_of(mask)
    ends = zip(reversed(wanted), reversed(given or []), strict=False)
    return all(have is not None and (have.number == 1 or have == want) for want, have in ends)


def _turn_back(turned: ir.Value, node: Match, to: Lifter) -> tuple[ir.Value, float]:
    """(K, c) of (c K)^T: what was transposed, or K^T transposed again."""
    swap = producer(turned, "Transpose")
    perm = None if swap is None or swap.rank() != 4 else swap.ints("perm")
    if swap is not None and perm is not None:
        k, factor = _unscaled(swap.operand(0))
        perm = [perm[0], perm[1], perm[3], perm[2]]
        if perm != [0, 1, 2, 3]:
            k = _shaped(to.op(node, "Transpose", "keys", [k], perm=perm), turned)
        return k, factor
    whole, given = _of_one_batch(turned), shape_of(turned)
    if whole is not None and given is not None:
        sizes = reshape_target([given[0], given[1], given[3], given[2]], shape_of(whole))
        if sizes is not None:
            target = to.constant(f"{node.name}.keys.sizes", sizes)
            return _shaped(to.op(node, "Reshape", "keys", [whole, target]), turned), 1.0
    return _shaped(to.op(node, "Transpose", "keys", [turned], perm=[0, 1, 3, 2]), turned), 1.0


def _of_one_batch(turned: ir.Value) -> ir.Value | None:
    """x, when K^T is x as (batch * heads, length, size), transposed, as (batch, heads, size, length): torch's way."""
    whole = producer(turned, "Reshape")
    swap = None if whole is None else producer(whole.operand(0), "Transpose", perm=[0, 2, 1])
    if swap is None:
        return None
    given, flat = shape_of(turned), shape_of(swap.output)
    if given is None or flat is None or flat[1:] != given[2:] or None in given:
        return None
    part = producer(swap.operand(0), "Reshape")
    return swap.operand(0) if part is None else part.operand(0)


def _shaped(k: ir.Value, turned: ir.Value) -> ir.Value:
    assert turned.shape is not None
    b, h, size, length = turned.shape
    k.shape = ir.Shape([b, h, length, size])
    return k
