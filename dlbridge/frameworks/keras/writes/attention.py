"""Attention: a short helper for what models have, one with the standard's whole formula; rotary embedding."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import keras_dtype, rules
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Emit, Op

_MASK, _PAST_KEY, _PAST_VALUE, _LENGTHS = 3, 4, 5, 6


@rules("Attention")
def attention(op: Op) -> Emit:
    return _short(op) if _is_plain(op) else _general(op)


def _is_plain(op: Op) -> bool:
    """Whether the node attends to keys of one call, by a mask that is as long as they are."""
    if any(op.used(i) for i in (1, 2, 3)) or any(op.has(i) for i in (_PAST_KEY, _PAST_VALUE, _LENGTHS)):
        return False
    if op.attr("left_window_size") >= 0 or op.attr("right_window_size") >= 0 or op.dtype(1) != op.dtype(0):
        return False
    if op.attr("softmax_precision") not in (None, int(op.dtype())):
        return False
    return not op.has(_MASK) or _mask_fits(op)


def _mask_fits(op: Op) -> bool:
    """Whether the mask is as long as the keys (ONNX fills up a shorter one, addition would broadcast it)."""
    mask, keys = op.shape(_MASK), op.shape(1)
    if mask is None or keys is None or len(mask) < 2 or op.dtype(_MASK) not in (ir.DataType.BOOL, op.dtype()):
        return False
    length, given = keys[-2], mask[-1]
    return length == given or (isinstance(length, int) != isinstance(given, int) and given != 1)


def _options(op: Op, causal: str) -> dict[str, Any]:
    options: dict[str, Any] = {"heads": (op.attr("q_num_heads"), op.attr("kv_num_heads"))} if op.rank() == 3 else {}
    options |= {causal: True} if op.attr("is_causal") else {}
    options |= {"scale": op.attr("scale")} if op.attr("scale") is not None else {}
    return options | ({"softcap": op.attr("softcap")} if op.attr("softcap") else {})


def _short(op: Op) -> Emit:
    mask = {"mask": op[_MASK]} if op.has(_MASK) else {}
    made = call("attention", op[0], op[1], op[2], **mask, **_options(op, "is_causal"))
    return Emit(made, targets=None if len(op.node.outputs) == 1 else "{0}")


def _general(op: Op) -> Emit:
    slots = {"mask": _MASK, "past_key": _PAST_KEY, "past_value": _PAST_VALUE, "lengths": _LENGTHS}
    keywords: dict[str, Any] = {k: op[i] for k, i in slots.items() if op.has(i)} | _options(op, "causal")
    window = (op.attr("left_window_size"), op.attr("right_window_size"))
    keywords |= {"window": window} if max(window) >= 0 else {}
    precision = op.attr("softmax_precision")
    keywords |= {"softmax_dtype": keras_dtype(op, ir.DataType(precision))} if precision is not None else {}
    keywords |= {"score_output": op.attr("qk_matmul_output_mode")} if op.used(3) else {}
    result = call("onnx_attention", op[0], op[1], op[2], **keywords)
    count = len(op.node.outputs)
    if count == 1:
        return Emit(code("{}[0]", result))
    return Emit(result if count == 4 else code(f"{{}}[:{count}]", result))


@rules("RotaryEmbedding")
def rotary_embedding(op: Op) -> Code:
    keywords: dict[str, Any] = {"positions": op[3]} if op.has(3) else {}
    keywords |= {"interleaved": True} if op.attr("interleaved") else {}
    keywords |= {"rotated": op.attr("rotary_embedding_dim")} if op.attr("rotary_embedding_dim") else {}
    keywords |= {"heads": op.attr("num_heads")} if op.rank() == 3 else {}
    return call("rotary_embedding", op.x, op[1], op[2], **keywords)


@rules("LinearAttention")
def linear_attention(op: Op) -> Code:
    slots = {"state": 3, "decay": 4, "beta": 5}
    keywords: dict[str, Any] = {k: op[i] for k, i in slots.items() if op.has(i)}
    keywords |= {"scale": op.attr("scale")} if op.attr("scale") else {}
    heads = (op.attr("q_num_heads"), op.attr("kv_num_heads"))
    return call("linear_attention", op[0], op[1], op[2], heads, **keywords)
