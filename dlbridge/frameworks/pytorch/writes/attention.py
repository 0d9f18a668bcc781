"""Attention: F.scaled_dot_product_attention where it computes the node, else a helper; rotary embedding."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.rules import first_output, rules, torch_dtype
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Emit, Op

_MASK, _PAST_KEY, _PAST_VALUE, _LENGTHS = 3, 4, 5, 6


@rules("Attention")
def attention(op: Op) -> Emit:
    return _fused(op) if _is_plain(op) else _general(op)


def _is_plain(op: Op) -> bool:
    """Whether PyTorch's fused attention computes the node."""
    if any(op.used(i) for i in (1, 2, 3)) or any(op.has(i) for i in (_PAST_KEY, _PAST_VALUE, _LENGTHS)):
        return False
    if op.attr("softcap") or op.attr("left_window_size") >= 0 or op.attr("right_window_size") >= 0:
        return False
    if op.dtype(1) != op.dtype(0) or op.attr("softmax_precision") not in (
        None,
        int(ir.DataType.FLOAT),
        int(op.dtype()),
    ):
        return False
    return not op.has(_MASK) or (not op.attr("is_causal") and _mask_fits(op))


def _mask_fits(op: Op) -> bool:
    """Whether the mask is as long as the keys (ONNX fills up a shorter one, PyTorch would broadcast it)."""
    mask, keys = op.shape(_MASK), op.shape(1)
    if mask is None or keys is None or len(mask) < 2 or op.dtype(_MASK) not in (ir.DataType.BOOL, op.dtype()):
        return False
    length, given = keys[-2], mask[-1]
    return length == given or (isinstance(length, int) != isinstance(given, int) and given != 1)


def _fused(op: Op) -> Emit:
    keywords: dict[str, Any] = {"attn_mask": op[_MASK]} if op.has(_MASK) else {}
    keywords |= {"is_causal": True} if op.attr("is_causal") else {}
    scale = op.attr("scale")
    keywords |= {} if scale is None else {"scale": scale}
    tensors = [op[0], op[1], op[2]]
    if op.rank() == 3:
        heads, kv_heads = op.attr("q_num_heads"), op.attr("kv_num_heads")
        counts = (heads, kv_heads, kv_heads)
        tensors = [
            code("{}.unflatten(-1, ({num_heads}, -1)).transpose(1, 2)", t, num_heads=n)
            for t, n in zip(tensors, counts, strict=True)
        ]
    else:
        heads, kv_heads = (op.shape(0) or [])[1], (op.shape(1) or [])[1]
    keywords |= {} if heads == kv_heads else {"enable_gqa": True}
    result = call("F.scaled_dot_product_attention", *tensors, **keywords)
    return Emit(code("{}.transpose(1, 2).flatten(2)", result) if op.rank() == 3 else result, targets=first_output(op))


def _general(op: Op) -> Emit:
    slots = {"mask": _MASK, "past_key": _PAST_KEY, "past_value": _PAST_VALUE, "lengths": _LENGTHS}
    keywords: dict[str, Any] = {k: op[i] for k, i in slots.items() if op.has(i)}
    keywords |= {"causal": True} if op.attr("is_causal") else {}
    keywords |= {"scale": op.attr("scale")} if op.attr("scale") is not None else {}
    keywords |= {"softcap": op.attr("softcap")} if op.attr("softcap") else {}
    if op.rank() == 3:
        keywords |= {"heads": (op.attr("q_num_heads"), op.attr("kv_num_heads"))}
    window = (op.attr("left_window_size"), op.attr("right_window_size"))
    keywords |= {"window": window} if max(window) >= 0 else {}
    precision = op.attr("softmax_precision")
    keywords |= {"softmax_dtype": torch_dtype(op, ir.DataType(precision))} if precision is not None else {}
    keywords |= {"score_output": op.attr("qk_matmul_output_mode")} if op.used(3) else {}
    result = call("attention", op[0], op[1], op[2], **keywords)
    count = len(op.node.outputs)
    if count == 1:
        return Emit(code("{}[0]", result))
    return Emit(result if count == 4 else code(f"{{}}[:{count}]", result))


@rules("RotaryEmbedding")
def rotary_embedding(op: Op) -> Code:
    keywords: dict[str, Any] = {"positions": op[3]} if op.has(3) else {}
    keywords |= {"interleaved": True} if op.attr("interleaved") else {}
    keywords |= {"rotated": op.attr("rotary_embedding_dim")} if op.attr("rotary_embedding_dim") else {}
    keywords |= {"num_heads": op.attr("num_heads")} if op.rank() == 3 else {}
    return call("rotary_embedding", op.x, op[1], op[2], **keywords)


@rules("LinearAttention")
def linear_attention(op: Op) -> Code:
    slots = {"state": 3, "decay": 4, "beta": 5}
    keywords: dict[str, Any] = {k: op[i] for k, i in slots.items() if op.has(i)}
    keywords |= {"scale": op.attr("scale")} if op.attr("scale") else {}
    return call("linear_attention", op[0], op[1], op[2], op.attr("q_num_heads"), op.attr("kv_num_heads"), **keywords)
