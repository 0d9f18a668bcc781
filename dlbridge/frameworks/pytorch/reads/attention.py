"""Scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import numel, rank, sizes
from dlbridge.frameworks.pytorch.graph.reading import Op, reads
from dlbridge.ops import traits


@reads("aten.scaled_dot_product_attention")
def attention(
    op: Op,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    attn_mask: ir.Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> ir.Value:
    """Attention of (batch, heads, length, size); other ranks are reshaped to this and back."""
    if dropout_p:
        op.refuse("attention with dropout at inference")
    size = sizes(query)[-1]
    if scale is not None and isinstance(size, int) and math.isclose(scale, size**-0.5, rel_tol=1e-7):
        scale = None  # what it is anyway
    tensors = [query, key, value]
    depth = max(rank(t) for t in tensors)
    if depth == 4:
        tensors = _one_batch(op, tensors)
    elif depth < 4:
        tensors = [op.unsqueeze(t, list(range(4 - rank(t)))) for t in tensors]
    else:
        lead = numel(sizes(query)[: depth - 3])
        tensors = [op.reshape(t, [lead, *sizes(t)[-3:]]) for t in tensors]
        attn_mask = _flat_mask(op, attn_mask, depth, lead)
    result = op("Attention", *tensors, attn_mask, is_causal=int(is_causal) or None, scale=scale)
    traits.set_dropout(result.producer(), op.dropped)
    return result if depth == 4 else op.reshape(result, op.sizes)


def _one_batch(op: Op, tensors: list[ir.Value]) -> list[ir.Value]:
    """Expand a batch of one, which PyTorch broadcasts and ONNX' Attention does not."""
    batch = next((sizes(t)[0] for t in tensors if sizes(t)[0] != 1), 1)
    if all(sizes(t)[0] == batch for t in tensors):
        return tensors
    return [t if sizes(t)[0] == batch else op("Expand", t, [batch, 1, 1, 1]) for t in tensors]


def _flat_mask(op: Op, mask: ir.Value | None, depth: int, lead: Any) -> ir.Value | None:
    if mask is None or rank(mask) <= 3 or all(s == 1 for s in sizes(mask)[: depth - 3]):
        return mask if mask is None or rank(mask) <= 4 else op.reshape(mask, [1, *sizes(mask)[-3:]])
    wide = sizes(mask)[: depth - 3]
    return op.reshape(mask, [numel(wide), *sizes(mask)[-3:]])
