"""Attention: F.scaled_dot_product_attention where it computes the node, else a helper; rotary embedding."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.rules import first_output, rules
from dlbridge.frameworks.pytorch.writes.arrays import TORCH
from dlbridge.ops import traits
from dlbridge.source.arrays.attention import MASK, is_plain, through_state
from dlbridge.source.arrays.attention import attend as attend_by_arrays
from dlbridge.source.op import Emit, Op
from dlbridge.source.tree.code import Code, call, code


@rules("Attention")
def attend(op: Op) -> Emit:
    return _fused(op) if _is_fused(op) else attend_by_arrays(op, TORCH)


def _is_fused(op: Op) -> bool:
    """Whether PyTorch's fused attention computes the node."""
    if not is_plain(op) or op.attr("softcap") or (op.has(MASK) and op.attr("is_causal")):
        return False
    return op.attr("softmax_precision") in (None, int(ir.DataType.FLOAT), int(op.dtype()))


def _fused(op: Op) -> Emit:
    keywords: dict[str, Any] = {"attn_mask": op[MASK]} if op.has(MASK) else {}
    keywords |= {"is_causal": True} if op.attr("is_causal") else {}
    scale = op.attr("scale")
    keywords |= {} if scale is None else {"scale": scale}
    dropout = traits.dropout(op.node)
    if dropout and not op.functional:
        keywords["dropout_p"] = code("{dropout} if self.training else 0.0", dropout=dropout)
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


@rules("LinearAttention")
def linear_attention(op: Op) -> Code:
    return through_state(op, op.attr("q_num_heads"), op.attr("kv_num_heads"))
