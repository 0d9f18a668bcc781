"""Attention: a short helper for what models have, one with the standard's whole formula; rotary embedding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.extension import DOMAIN
from dlbridge.source.arrays import ArrayDialect, Family, as_many_as_read
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import LAYER, Code, call, code

attention = Family()
#: Inputs of Attention: Q, K, V, mask, past key, past value, lengths.
MASK, PAST_KEY, PAST_VALUE, LENGTHS = 3, 4, 5, 6


@attention("Attention")
def attend(op: Op, arrays: ArrayDialect) -> Emit:
    precise, groups = op.attr("softmax_precision") in (None, int(op.dtype())), _groups(op)
    if not is_plain(op) or not precise or groups is None:
        return by_formula(op, arrays, "onnx_attention", {**_options(op, "causal")})
    is_boolean = op.has(MASK) and op.dtype(MASK) == ir.DataType.BOOL
    tensors = [op[0], op[1], op[2], *([op[MASK]] if is_boolean else [])]
    options: dict[str, Any] = {"bias": op[MASK]} if op.has(MASK) and not is_boolean else {}
    options |= {"groups": groups} if groups > 1 else {}
    dropout = _dropout(op, arrays)
    made = call("attention", *tensors, **options, **_options(op, "is_causal"), dropout=dropout and code(LAYER))
    return Emit(made, dropout, targets=None if len(op.node.outputs) == 1 else "{0}")


def _dropout(op: Op, arrays: ArrayDialect) -> Layer | None:
    """The layer that drops the weights of an Attention in training; None for one that keeps them."""
    ratio = traits.dropout(op.node)
    return Layer(arrays.dropout(ratio), called="dropout") if ratio and not op.functional else None


def _groups(op: Op) -> int | None:
    """How many heads of queries share one of keys and values; None where that is not known."""
    if op.rank() == 3:
        return int(op.attr("q_num_heads")) // int(op.attr("kv_num_heads"))
    heads, shared = ((op.shape(i) or [None, None])[1] for i in (0, 1))
    if heads == shared:
        return 1
    return heads // shared if isinstance(heads, int) and isinstance(shared, int) else None


def is_plain(op: Op) -> bool:
    """Whether the node attends to keys of one call, by a mask that is as long as they are."""
    if any(op.used(i) for i in (1, 2, 3)) or any(op.has(i) for i in (PAST_KEY, PAST_VALUE, LENGTHS)):
        return False
    if op.attr("left_window_size") >= 0 or op.attr("right_window_size") >= 0 or op.dtype(1) != op.dtype(0):
        return False
    return not op.has(MASK) or _mask_fits(op)


def _mask_fits(op: Op) -> bool:
    """Whether the mask is as long as the keys (ONNX fills up a shorter one, the frameworks would broadcast it)."""
    mask, keys = op.shape(MASK), op.shape(1)
    if mask is None or keys is None or len(mask) < 2 or op.dtype(MASK) not in (ir.DataType.BOOL, op.dtype()):
        return False
    length, given = keys[-2], mask[-1]
    return length == given or (isinstance(length, int) != isinstance(given, int) and given != 1)


def _options(op: Op, causal: str) -> dict[str, Any]:
    options: dict[str, Any] = {"heads": (op.attr("q_num_heads"), op.attr("kv_num_heads"))} if op.rank() == 3 else {}
    options |= {causal: True} if op.attr("is_causal") else {}
    options |= {"scale": op.attr("scale")} if op.attr("scale") is not None else {}
    return options | ({"softcap": op.attr("softcap")} if op.attr("softcap") else {})


def by_formula(op: Op, arrays: ArrayDialect, helper: str, options: dict[str, Any]) -> Emit:
    """A call of the helper that computes the standard's whole formula.

    Args:
        op: An Attention.
        arrays: How arrays are spelled.
        helper: The helper's name.
        options: Its keywords for heads, scale, cap and causal masks.
    """
    slots = {"mask": MASK, "past_key": PAST_KEY, "past_value": PAST_VALUE, "lengths": LENGTHS}
    keywords: dict[str, Any] = {k: op[i] for k, i in slots.items() if op.has(i)} | options
    window = (op.attr("left_window_size"), op.attr("right_window_size"))
    keywords |= {"window": window} if max(window) >= 0 else {}
    precision = op.attr("softmax_precision")
    keywords |= {"softmax_dtype": arrays.dtype(op, ir.DataType(precision))} if precision is not None else {}
    keywords |= {"score_output": op.attr("qk_matmul_output_mode")} if op.used(3) else {}
    dropout = _dropout(op, arrays)
    made = call(helper, op[0], op[1], op[2], **keywords, dropout=dropout and code(LAYER))
    return replace(as_many_as_read(op, made, 4), layer=dropout)


@attention("CausalMask", domain=DOMAIN)
def causal_mask(op: Op, arrays: ArrayDialect) -> Code:
    keywords: dict[str, Any] = {"window": op.attr("window")} if op.attr("window") else {}
    keywords |= {"axis": op.attr("axis")} if op.attr("axis") != 1 else {}
    return call("visible_keys", *([op.x, op[1]] if op.has(1) else [op.x]), **keywords)


@attention("RelativeBuckets", domain=DOMAIN)
def relative_buckets(op: Op, arrays: ArrayDialect) -> Code:
    keywords = {"bidirectional": True} if op.attr("bidirectional") else {}
    numbers = {name: op.attr(name) for name in ("num_buckets", "max_distance")}
    return call("position_buckets", op.x, **numbers, **keywords)


@attention("RotateHalves", domain=DOMAIN)
def rotate_halves(op: Op, arrays: ArrayDialect) -> Code:
    return call("rotate_halves", op[0], op[1], op[2])


@attention("RotaryEmbedding")
def rotary_embedding(op: Op, arrays: ArrayDialect) -> Code:
    keywords: dict[str, Any] = {"positions": op[3]} if op.has(3) else {}
    keywords |= {"interleaved": True} if op.attr("interleaved") else {}
    keywords |= {"rotated": op.attr("rotary_embedding_dim")} if op.attr("rotary_embedding_dim") else {}
    keywords |= {"heads": op.attr("num_heads")} if op.rank() == 3 else {}
    return call("rotary_embedding", op.x, op[1], op[2], **keywords)


@attention("LinearAttention")
def linear_attention(op: Op, arrays: ArrayDialect) -> Code:
    return through_state(op, (op.attr("q_num_heads"), op.attr("kv_num_heads")))


def through_state(op: Op, *heads: Any) -> Code:
    """A call of the helper that attends through a state, with the numbers of heads as it takes them."""
    slots = {"state": 3, "decay": 4, "beta": 5}
    keywords: dict[str, Any] = {k: op[i] for k, i in slots.items() if op.has(i)}
    keywords |= {"scale": op.attr("scale")} if op.attr("scale") else {}
    return call("linear_attention", op[0], op[1], op[2], *heads, **keywords)
