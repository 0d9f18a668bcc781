"""onnxruntime's attention: its forms differ in how queries, keys, values and masks are given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlbridge.passes.foreign.microsoft import rotated
from dlbridge.passes.foreign.site import Foreign, Results, rule
from dlbridge.passes.matching import rank, static_size

#: What is added to the scores of keys that a mask leaves out, unless a node says another number.
_LEFT_OUT = -10000.0


@dataclass
class _Parts:
    """Queries, keys and values, each (batch, heads, length, size)."""

    q: ir.Value
    k: ir.Value
    v: ir.Value


@rule("Attention")
def _attention(site: Foreign) -> Results:
    """One matrix projects the input to queries, keys and values."""
    product = site.op("MatMul", "qkv", [site.x, site.operand(1)])
    bias = site.input(2)
    product = product if bias is None else site.op("Add", "qkv_biased", [product, bias])
    return _self_attention(site, product, mask=site.input(3), past=site.input(4), bias=site.input(5))


@rule("QAttention")
def _quantized_attention(site: Foreign) -> Results:
    """As Attention, with the product in integers."""
    product = site.op("MatMulInteger", "integers", [site.x, site.operand(1), site.input(6), site.input(7)])
    scale = site.op("Mul", "scales", [site.operand(3), site.operand(4)])
    floats = site.op("Cast", "floats", [product], to=int(site.dtype(3)))
    scaled = site.op("Mul", "scaled", [floats, scale])
    return _self_attention(
        site, site.op("Add", "qkv", [scaled, site.operand(2)]), mask=site.input(5), past=site.input(8), bias=None
    )


def _self_attention(
    site: Foreign, product: ir.Value, *, mask: ir.Value | None, past: ir.Value | None, bias: ir.Value | None
) -> Results:
    site.needs(not site.get("do_rotary", 0), "it rotates queries and keys")
    heads, stated = site.get("num_heads"), site.get("qkv_hidden_sizes")
    widths = list(stated) if stated else [site.size(1, 1) // 3] * 3
    parts = _Parts(*(_apart(site, x, heads, w) for x, w in zip(site.split(product, widths), "qkv", strict=True)))
    before = None
    if past is not None:
        both = site.many("Split", "past", [past, site.constant("one_each", [1, 1])], 2, axis=0)
        first = site.constant("first_axis", [0])
        before = [site.op("Squeeze", f"past_{w}", [x, first]) for x, w in zip(both, "kv", strict=True)]
    y, k, v = _attend(site, parts, mask, bias, before, present=site.is_read(1))
    present = None
    if site.is_read(1):
        joined = [site.with_axes(x, f"present_{w}", 0) for x, w in ((k, "k"), (v, "v")) if x is not None]
        present = site.op("Concat", "present", joined, axis=0)
    return y, present


@rule("MultiHeadAttention")
def _multi_head_attention(site: Foreign) -> Results:
    """Queries, keys and values as separate inputs, or packed side by side in one."""
    site.needs(site.input(9) is None and site.input(8) is None, "it keeps its cache in place")
    heads, axes = site.get("num_heads"), site.known_rank()
    query, key, value = site.x, site.input(1), site.input(2)
    if axes == 5:
        site.needs(site.input(3) is None, "its bias is added to packed queries")
        parts = _Parts(*_unpacked(site, query, 3))
    elif key is not None and value is None and rank(key) == 5:
        q = _apart(site, _biased(site, query, 0), heads, "q")
        parts = _Parts(q, *_unpacked(site, key, 2))
    else:
        site.needs(key is not None and value is not None, "it has no keys or no values")
        assert key is not None and value is not None
        q = _apart(site, _biased(site, query, 0), heads, "q")
        if rank(key) == 4:
            parts = _Parts(q, key, value)
        else:
            k, v = _biased(site, key, 1), _biased(site, value, 2)
            parts = _Parts(q, _apart(site, k, heads, "k"), _apart(site, v, heads, "v"))
    past = [site.input(6), site.input(7)]
    before = [x for x in past if x is not None]
    return _attend(
        site, parts, site.input(4), site.input(5), before or None, present=site.is_read(1) or site.is_read(2)
    )


def _biased(site: Foreign, x: ir.Value, part: int) -> ir.Value:
    """``x`` with its part of the bias, which holds those of queries, keys and values one after another."""
    if site.input(3) is None:
        return x
    widths = [static_size(site.input(slot), 2) for slot in (0, 1, 2)]
    known = [width for width in widths if width is not None]
    site.needs(len(known) == 3, "the sizes of its parts are not known")
    start = sum(known[:part])
    bounds = [
        site.constant(f"bias_{name}{part}", [place]) for name, place in (("from", start), ("to", start + known[part]))
    ]
    return site.op("Add", f"biased{part}", [x, site.op("Slice", f"bias{part}", [site.operand(3), *bounds])])


def _apart(site: Foreign, x: ir.Value, heads: int, what: str) -> ir.Value:
    """Split heads: (batch, length, heads * size) as (batch, heads, length, size)."""
    return site.turned(site.reshaped(x, f"{what}_heads", 0, 0, heads, -1), what, 0, 2, 1, 3)


def _unpacked(site: Foreign, x: ir.Value, count: int) -> list[ir.Value]:
    """(batch, length, heads, count, size) as so many of (batch, heads, length, size)."""
    ones, axis = site.constant("packed_sizes", [1] * count), site.constant("packed_axis", [3])
    packed = site.many("Split", "packed", [x, ones], count, axis=3)
    flat = [site.op("Squeeze", f"unpacked{i}", [part, axis]) for i, part in enumerate(packed)]
    return [site.turned(part, f"part{i}", 0, 2, 1, 3) for i, part in enumerate(flat)]


def _joined(site: Foreign, y: ir.Value) -> ir.Value:
    """Merge heads: (batch, heads, length, size) as (batch, length, heads * size)."""
    return site.reshaped(site.turned(y, "rows", 0, 2, 1, 3), "joined", 0, 0, -1)


def _attend(
    site: Foreign,
    parts: _Parts,
    mask: ir.Value | None,
    bias: ir.Value | None,
    past: list[ir.Value] | None,
    *,
    present: bool,
) -> tuple[ir.Value, ir.Value | None, ir.Value | None]:
    """The result of attention, and the keys and values with those of the past where they are asked for."""
    k, v = parts.k, parts.v
    if past:
        k, v = (site.op("Concat", f"all_{w}", [x, new], axis=2) for w, x, new in zip("kv", past, (k, v), strict=True))
    total = [b for b in (_masked(site, mask, parts, k), bias, _causal(site, parts.q, k)) if b is not None]
    inputs = [parts.q, k, v]
    if total:
        whole = total[0]
        for number, more in enumerate(total[1:]):
            whole = site.op("Add", f"mask_{number}", [whole, more])
        inputs.append(whole)
    scale = site.get("scale", 0.0)
    y = _joined(site, site.op("Attention", "attention", inputs, **({"scale": scale} if scale else {})))
    return (y, k, v) if present else (y, None, None)


def _causal(site: Foreign, q: ir.Value, k: ir.Value) -> ir.Value | None:
    """The causal mask: minus infinity where a key comes after a query."""
    if not site.get("unidirectional", 0):
        return None
    steps, keys = site.size_of(q, 2, "queries"), site.size_of(k, 2, "keys")
    behind = site.op("Sub", "behind", [keys, steps])
    sizes = site.op("Concat", "scores_shape", [steps, keys], axis=0)
    lowest = ir.tensor(np.array([-np.inf], np.float32), dtype=q.dtype or ir.DataType.FLOAT)
    full = site.op("ConstantOfShape", "never", [sizes], value=lowest)
    above = site.op("Squeeze", "above", [site.op("Add", "next", [behind, site.constant("one", [1])])])
    return site.op("Trilu", "future", [full, above], upper=1)


def _masked(site: Foreign, mask: ir.Value | None, parts: _Parts, k: ir.Value) -> ir.Value | None:
    """The mask that is added to the scores: 0 for keys that take part, a large negative number for others."""
    if mask is None:
        return None
    axes, dtype = rank(mask), parts.q.dtype or ir.DataType.FLOAT
    if axes == 1:
        lengths = mask.shape[0] if mask.shape is not None else None
        rows = site.x.shape[0] if site.x.shape is not None else None
        site.needs(lengths is not None and lengths == rows, "its mask is neither one number a row nor one a key")
        places = site.range_to(site.size_of(k, 2, "mask_keys"), "mask_places")
        wide = site.with_axes(site.op("Cast", "lengths", [mask], to=int(ir.DataType.INT64)), "lengths_of_rows", 1)
        counts = site.op("Less", "counts", [places, wide])
        axes = 2
    elif axes in (2, 3):
        counts = site.op("Cast", "counts", [mask], to=int(ir.DataType.BOOL))
    else:
        site.needs(False, "the form of its mask is not known")
    hidden = site.op("Cast", "hidden", [site.op("Not", "left_out", [counts])], to=int(dtype))
    added = site.op(
        "Mul", "mask", [hidden, site.constant("far_below", site.get("mask_filter_value", _LEFT_OUT), dtype)]
    )
    return site.with_axes(added, "mask_of_heads", *((1, 2) if axes == 2 else (1,)))


# --- grouped queries --------------------------------------------------------------------------------------------------


@rule("GroupQueryAttention")
def _group_query_attention(site: Foreign) -> Results:
    """Attention of a decoder: keys and values of fewer heads, rotated, behind those of the past of each row."""
    for slot, what in ((11, "a sink"), (12, "a quantised cache"), (13, "a quantised cache"), (14, "norms of queries")):
        site.needs(site.input(slot) is None, f"it has {what}")
    site.needs(site.get("smooth_softmax", -1) <= 0 and not site.get("qk_output", 0), "its softmax is another one")
    site.needs(site.get("causal", 1) == 1, "it looks ahead")
    heads, kv_heads = site.get("num_heads"), site.get("kv_num_heads")
    q, k, v = site.x, site.input(1), site.input(2)
    if k is None or v is None:
        size = site.size(0, 2) // (heads + 2 * kv_heads)
        q, k, v = site.split(site.x, [heads * size, kv_heads * size, kv_heads * size], "packed")
    q, k, v = _apart(site, q, heads, "q"), _apart(site, k, kv_heads, "k"), _apart(site, v, kv_heads, "v")
    steps = site.size_of(site.x, 1, "steps")
    past_k, past_v = site.input(3), site.input(4)
    is_first = past_k is None or static_size(past_k, 2) == 0
    offsets = None if is_first else _past_lengths(site, steps)
    if site.get("do_rotary", 0):
        places = site.input(9) or _places(site, steps, offsets)
        turned = {"interleaved": site.get("rotary_interleaved", 0)}
        width, whole = site.size(7, 1) * 2, static_size(q, 3)
        site.needs(whole is not None or site.input(1) is not None, "the size of a head is not known")
        size = whole or site.size(0, 2) // heads
        turned["rotary_embedding_dim"] = width if width != size else 0
        q, k = (
            rotated(site, x, places, site.operand(7), site.operand(8), f"{w}_turned", **turned)
            for x, w in ((q, "q"), (k, "k"))
        )
    lengths = None
    if offsets is not None:
        assert past_k is not None and past_v is not None
        lengths = site.op("Add", "lengths", [offsets, steps])
        order = _order(site, past_k, steps, offsets)
        k, v = (_behind(site, past, new, order, lengths, w) for past, new, w in ((past_k, k, "k"), (past_v, v, "v")))
    window, softcap, scale = site.get("local_window_size", -1), site.get("softcap", 0.0), site.get("scale", 0.0)
    options = {"scale": scale} if scale else {}
    options |= {"softcap": softcap} if softcap else {}
    options |= {"left_window_size": window - 1} if window > 0 else {}
    inputs = [q, k, v, site.input(10), *([None, None, lengths] if lengths is not None else [])]
    y = site.op("Attention", "attention", inputs, is_causal=1, **options)
    return _joined(site, y), k, v


def _past_lengths(site: Foreign, steps: ir.Value) -> ir.Value:
    """How many steps of each row are in the cache: none in the first call, in which rows may be padded."""
    counted = site.op("Cast", "last_places", [site.operand(5)], to=int(ir.DataType.INT64))
    whole = site.op("Add", "all_steps", [site.reshaped(counted, "last_place_of_rows", -1), site.constant("one", [1])])
    before = site.op("Sub", "steps_before", [whole, steps])
    return site.op("Max", "past_lengths", [before, site.constant("none", [0])])


def _places(site: Foreign, steps: ir.Value, offsets: ir.Value | None) -> ir.Value:
    """The position of each step of each row in its sequence."""
    counted = site.range_to(steps, "counted")
    if offsets is not None:
        return site.op("Add", "places", [counted, site.with_axes(offsets, "first_places", 1)])
    sizes = site.op("Concat", "places_shape", [site.size_of(site.x, 0, "rows"), site.constant("any", [1])], axis=0)
    return site.op("Expand", "places", [counted, sizes])


def _order(site: Foreign, past: ir.Value, steps: ir.Value, offsets: ir.Value) -> ir.Value:
    """For each place of each row: where its key is among those of the past with the new ones behind them."""
    had = site.size_of(past, 2, "cache")
    total = site.op("Cast", "whole", [site.reshaped(site.operand(6), "whole_length", 1)], to=int(ir.DataType.INT64))
    places = site.range_to(site.op("Max", "kept_length", [total, had]), "kept_places")
    own = site.with_axes(offsets, "own_lengths", 1)
    late = site.op("Sub", "since", [places, own])
    last = site.op("Sub", "last_step", [steps, site.constant("one_step", [1])])
    new = site.op("Add", "new_places", [site.op("Min", "at_most_last", [late, last]), had])
    return site.op("Where", "order", [site.op("Less", "is_past", [places, own]), places, new])


def _behind(site: Foreign, past: ir.Value, new: ir.Value, order: ir.Value, lengths: ir.Value, what: str) -> ir.Value:
    """The keys or values of the past with the new ones in their places, and zeros behind the last one of each row."""
    both = site.op("Concat", f"{what}_both", [past, new], axis=2)
    wide = site.with_axes(order, f"{what}_order", 1, 3)
    sizes = site.op("Shape", f"{what}_both_shape", [both])
    bounds = [[site.constant(f"{what}_{n}", [n]) for n in pair] for pair in ((0, 2), (3, 4))]
    parts = [
        site.op("Slice", f"{what}_heads", [sizes, *bounds[0]]),
        site.size_of(order, 1, f"{what}_kept"),
        site.op("Slice", f"{what}_size", [sizes, *bounds[1]]),
    ]
    indices = site.op("Expand", f"{what}_places", [wide, site.op("Concat", f"{what}_shape", parts, axis=0)])
    found = site.op("GatherElements", f"{what}_cached", [both, indices], axis=2)
    places = site.range_to(site.size_of(order, 1, f"{what}_count"), f"{what}_steps")
    is_there = site.op("Less", f"{what}_there", [places, site.with_axes(lengths, f"{what}_lengths", 1)])
    zero = site.constant(f"{what}_zero", 0, past.dtype or ir.DataType.FLOAT)
    return site.op("Where", f"{what}_known", [site.with_axes(is_there, f"{what}_mask", 1, 3), found, zero])
