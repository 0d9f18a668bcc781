"""Attention layers. The usual case is ONNX' Attention between Linear layers; others are opened."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite, ends_of, layer
from dlbridge.frameworks.keras.graph.masks import mask_of, set_mask
from dlbridge.ops import traits
from dlbridge.ops.extension import DOMAIN

_ARGUMENTS = ("query", "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask")


@layer("MultiHeadAttention", masks=True, arguments=True)
def multi_head_attention(site: CallSite) -> Any:
    kind = site.layer
    given = _given(site)
    axes = kind._attention_axes
    scores = given.get("return_attention_scores")
    plain = site.rank() == 3 and tuple(axes) == (1,) and not (kind._use_gate or kind._sliding_window or scores)
    if not plain or (kind._output_shape and len(kind._output_shape) != 1):
        return site.reader.open(site)
    heads = [kind._num_heads, kind._num_heads]
    parts = [kind._query_dense, kind._key_dense, kind._value_dense, kind._output_dense]
    return _attend(site, given, heads, parts, kind._key_dim, dropout=kind._dropout)


@layer("GroupedQueryAttention", "GroupQueryAttention", masks=True, arguments=True)
def grouped_query_attention(site: CallSite) -> Any:
    kind = site.layer
    given = _given(site)
    if kind.use_gate or kind.sliding_window or given.get("return_attention_scores"):
        return site.reader.open(site)
    heads = [kind.num_query_heads, kind.num_key_value_heads]
    parts = [kind._query_dense, kind._key_dense, kind._value_dense, kind._output_dense]
    return _attend(site, given, heads, parts, kind.head_dim, dropout=kind.dropout)


def _given(site: CallSite) -> dict[str, Any]:
    """The arguments of the call by name, with the masks that the tensors have in Keras."""
    given = dict(zip(_ARGUMENTS, site.args, strict=False)) | site.kwargs
    for name in ("query", "value", "key"):
        tensor = given.get(name)
        if given.get(f"{name}_mask") is None:
            given[f"{name}_mask"] = mask_of(tensor)
    if site.kind == "MultiHeadAttention":  # which asks the tensor itself
        given["query_mask"] = mask_of(given["query"])
    return given


def _attend(
    site: CallSite, given: dict[str, Any], heads: list[int], parts: list[Any], head_size: int, *, dropout: float
) -> Any:
    """Attention between its projections; with ``dropout``, as Keras computes it in a layer that has some."""
    explicit = given.get("attention_mask")
    if dropout and explicit is not None and site.rank(site.tensor(explicit)) == 4:
        return site.reader.open(site)
    path = site.build.path
    site.build.blocks[path] = type(site.layer).__name__
    key = given.get("key") if given.get("key") is not None else given["value"]
    sources = [given["query"], key, given["value"]]
    q, k, v = (
        _project(site, f"{path}.{name}", site.tensor(x), part, 1)
        for name, x, part in zip(("query", "key", "value"), sources, parts, strict=False)
    )
    with site.build.at(path, inside=True):
        masks, causal, some = _mask(site, given, q, v)
        y = site.op(
            "Attention",
            *(q, k, v, *masks),
            q_num_heads=heads[0],
            kv_num_heads=heads[1],
            scale=1 / math.sqrt(head_size),
            is_causal=1 if causal else None,
        )
        traits.set_dropout(y.producer(), dropout)
        if dropout and some is not None:
            y = site.op("Where", some, y, 0.0)
    y = _project(site, f"{path}.attention_output", y, parts[3], 2)
    own = given.get("query_mask")
    if own is not None and site.kind == "MultiHeadAttention":
        set_mask(y, own)
    return y


def _project(site: CallSite, path: str, x: ir.Value, dense: Any, inner: int) -> ir.Value:
    """A projection as Linear, which sums over the kernel's first ``inner`` axes."""
    shape = [int(s) for s in dense._kernel.shape]
    rows = int(np.prod(shape[:inner]))
    columns = int(np.prod(shape[inner:]))
    with site.build.at(path):
        weight = site.weight(dense._kernel, "weight", ("reshape", (rows, columns)), ("transpose", (1, 0)))
        bias = [] if dense.bias is None else [site.weight(dense.bias, "bias", ("reshape", (columns,)))]
        y = site.layer_op("Linear", x, weight, *bias, domain=DOMAIN)
        return site.activation(y, dense.activation)


def _mask(
    site: CallSite, given: dict[str, Any], q: ir.Value, v: ir.Value
) -> tuple[list[ir.Value], bool, ir.Value | None]:
    """(the added mask, as a list of one or none; whether the standard's causal mask does it; which rows may attend to
    something, where there is a mask).

    As in Keras a large negative number is added where nothing may be attended to, so a row without any is uniform; in a
    layer with dropout, its ``Softmax`` layer makes such a row zeros.
    """
    causal = bool(given.get("use_causal_mask"))
    allowed = []
    if given.get("query_mask") is not None:
        allowed.append(site.unsqueeze(site.cast(given["query_mask"], ir.DataType.BOOL), -1))
    for name in ("value_mask", "key_mask"):
        if given.get(name) is not None:
            allowed.append(site.unsqueeze(site.cast(given[name], ir.DataType.BOOL), -2))
    explicit = given.get("attention_mask")
    if explicit is not None:
        allowed.append(site.cast(site.tensor(explicit), ir.DataType.BOOL))
    if not allowed:
        return [], causal, None
    if causal:
        allowed.append(_triangle(site, q, v))
    mask = allowed[0]
    for other in allowed[1:]:
        mask = site.op("And", mask, other)
    some = site.op("ReduceMax", mask, [-1], keepdims=1)
    if site.rank(mask) == 3:
        mask = site.unsqueeze(mask, 1)
    lowest, _ = ends_of(q.dtype)
    added = site.op("Where", mask, 0.0, site.build.value(lowest * 0.7, q.dtype))
    shape = site.op("Concat", site.op("Shape", added, end=2), site.size(q, 1), site.size(v, 1), axis=0)
    return [site.op("Expand", added, shape)], False, some


def _triangle(site: CallSite, q: ir.Value, v: ir.Value) -> ir.Value:
    """The causal mask (1, T, S)."""
    allowed = site.op("GreaterOrEqual", site.unsqueeze(site.steps(q, 1), 1), site.unsqueeze(site.steps(v, 1), 0))
    return site.unsqueeze(allowed, 0)
