"""``F.multi_head_attention_forward`` as ``torch.export`` traces it: by the batch, and with an axis of the heads.

PyTorch's own code works with the time first and folds the heads into the batch. The same numbers come of a dozen
reshapes fewer here, in the form in which attention is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlbridge.frameworks.pytorch.export.author_frames import call_it


def _multi_head_attention(
    function: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    **rest: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of (time, batch, features); anything unusual is left to PyTorch's own code."""
    given = {name: part for name, part in locals().items() if name not in ("function", "rest")} | rest
    if not is_usual(**given):
        return function(**given)
    if is_causal and key_padding_mask is None:
        attn_mask = None
    else:
        is_causal = False
    weights = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else in_proj_weight
    projected = _projected(query, key, value, weights, in_proj_bias)
    q, k, v = (call_it(name, x) for name, x in zip("qkv", projected, strict=True))
    mask = _mask(attn_mask, key_padding_mask, num_heads, q)
    if mask is not None and mask is not attn_mask:
        call_it("mask", mask)
    q, k, v = (call_it(name, _heads(x, num_heads)) for name, x in (("q", q), ("k", k), ("v", v)))
    found = None
    if need_weights:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        found = F.softmax(scores if mask is None else scores + mask, dim=-1)
        found = F.dropout(found, dropout_p, training) if dropout_p > 0.0 else found
        y = found @ v
        found = found.mean(dim=1) if average_attn_weights else found
    else:
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout_p if training else 0.0, is_causal)
    call_it("x", y)
    return F.linear(y.transpose(1, 2).flatten(2), out_proj_weight, out_proj_bias).transpose(0, 1), found


def is_usual(
    *,
    query: Tensor,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    training: bool,
    need_weights: bool,
    attn_mask: Tensor | None,
    is_causal: bool,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    **rest: Any,
) -> bool:
    """Whether a call of ``F.multi_head_attention_forward`` with these arguments is traced in the short form."""
    if query.dim() != 3 or add_zero_attn or any(part is not None for part in (bias_k, bias_v, static_k, static_v)):
        return False
    return not is_causal or not (attn_mask is None or need_weights or training)


def _projected(query: Tensor, key: Tensor, value: Tensor, weights: Any, bias: Tensor | None) -> tuple[Tensor, ...]:
    """Queries, keys and values, with the batch first."""
    x, size = query.transpose(0, 1), query.shape[-1]
    if isinstance(weights, tuple):
        biases = (None, None, None) if bias is None else bias.chunk(3)
        rest = (key.transpose(0, 1), value.transpose(0, 1))
        return tuple(F.linear(each, w, b) for each, w, b in zip((x, *rest), weights, biases, strict=True))
    if query is key and key is value:
        return F.linear(x, weights, bias).chunk(3, dim=-1)
    of_query, of_rest = weights.split([size, 2 * size])
    bias_of_query, bias_of_rest = (None, None) if bias is None else bias.split([size, 2 * size])
    q, y = F.linear(x, of_query, bias_of_query), key.transpose(0, 1)
    if key is value:
        return q, *F.linear(y, of_rest, bias_of_rest).chunk(2, dim=-1)
    (of_key, of_value), (bias_of_key, bias_of_value) = of_rest.chunk(2), (None, None)
    if bias_of_rest is not None:
        bias_of_key, bias_of_value = bias_of_rest.chunk(2)
    return q, F.linear(y, of_key, bias_of_key), F.linear(value.transpose(0, 1), of_value, bias_of_value)


def _heads(x: Tensor, count: int) -> Tensor:
    """(batch, time, features) -> (batch, heads, time, size)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def _mask(mask: Tensor | None, padding: Tensor | None, heads: int, q: Tensor) -> Tensor | None:
    """What is added to the scores: the mask of (queries, keys), for each head or for all, and that of the keys."""
    mask = None if mask is None else _added(mask, q)
    if mask is not None and mask.dim() == 3:
        mask = mask.unflatten(0, (-1, heads))
    if padding is None:
        return mask
    hidden = _added(padding, q)[:, None, None]
    return hidden if mask is None else mask + hidden


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as it is added: -inf where it is True."""
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else mask


#: PyTorch function -> what is called instead while a module is traced.
INSTEAD: Mapping[Any, Callable[..., Any]] = {F.multi_head_attention_forward: _multi_head_attention}
