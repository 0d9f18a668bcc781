"""Preprocessing layers. What they compute in numpy when the model is built is a constant of the model."""

from __future__ import annotations

import inspect
import json
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.building import IR_DTYPES
from dlbridge.frameworks.keras.graph.call_site import CallSite, layer
from dlbridge.frameworks.keras.reads.indexing import one_hot_of
from dlbridge.ops.extension import AUGMENTATIONS, DOMAIN


@layer("Rescaling")
def rescaling(site: CallSite) -> Any:
    kind = site.layer
    x = site.cast(site.x, kind.compute_dtype)
    scale, offset = (np.asarray(v, x.dtype.numpy()) for v in (kind.scale, kind.offset))
    if scale.ndim and keras.config.image_data_format() == "channels_first":
        scale = scale.reshape(*scale.shape, *([1] * (3 - scale.ndim)))
    x = site.layer_op("Mul", x, scale)
    return x + offset if np.any(offset) else x


@layer("CategoryEncoding", arguments=True)
def category_encoding(site: CallSite) -> Any:
    kind = site.layer
    weights = site.args[1] if len(site.args) > 1 else site.kwargs.get("count_weights")
    return encode(site, site.x, kind.output_mode, int(kind.num_tokens), IR_DTYPES[kind.dtype], weights)


def encode(site: CallSite, x: ir.Value, mode: str, depth: int, dtype: ir.DataType, weights: Any = None) -> ir.Value:
    """Encode classes as integers, one-hot, multi-hot or counts."""
    if getattr(site.layer, "sparse", False):
        site.refuse("a sparse result")
    if mode == "int":
        return site.cast(x, dtype)
    if site.rank(x) == 0:
        x = site.unsqueeze(x, 0)
    if mode == "one_hot":
        last = site.shape(x)[-1] == 1 and site.rank(x) > 1
        return one_hot_of(site, site.squeeze(x, -1) if last else x, depth, -1, dtype)
    hot = one_hot_of(site, x, depth, -1, dtype)
    axis = 1 if site.rank(x) > 1 else 0
    if mode == "multi_hot":
        return site.op("ReduceMax", hot, [axis], keepdims=0)
    if weights is not None:
        hot = hot * site.unsqueeze(site.cast(site.tensor(weights), dtype), -1)
    return site.op("ReduceSum", hot, [axis], keepdims=0)


@layer("Discretization")
def discretization(site: CallSite) -> Any:
    kind = site.layer
    if kind.bin_boundaries is None:
        site.refuse("it was not adapted to data")
    x = site.x
    edges = np.asarray(kind.bin_boundaries, x.dtype.numpy() if x.dtype.is_floating_point() else np.float32)
    if not x.dtype.is_floating_point():
        x = site.cast(x, "float32")
    at_least = site.op("GreaterOrEqual", site.unsqueeze(x, -1), edges)
    indices = site.op("ReduceSum", site.cast(at_least, "int32"), [-1], keepdims=0)
    return encode(site, indices, kind.output_mode, len(edges) + 1, IR_DTYPES[kind.output_dtype])


@layer(*AUGMENTATIONS)
def augmentation(site: CallSite) -> Any:
    """Image augmentation, which acts in training only; at inference it casts."""
    x = site.cast(site.x, site.layer.compute_dtype)
    return site.layer_op(
        "Augmentation", x, domain=DOMAIN, kind=site.kind, config=json.dumps(_configuration(site.layer))
    )


def _configuration(made: Any) -> dict[str, Any]:
    """The configuration of a layer without defaults, and without a seed, which Keras may have made up."""
    usual = {name: p.default for name, p in inspect.signature(type(made).__init__).parameters.items()}
    usual["data_format"] = "channels_last"
    for name in ("self", "name", "trainable", "dtype", "seed"):
        usual.pop(name, None)
    given = made.get_config()
    if isinstance(made, keras.layers.RandomShear):  # it gives (-x, x) for x, and does not take it
        given |= {k: v[1] for k, v in given.items() if isinstance(v, tuple) and v[0] == -v[1]}
    return {name: given[name] for name in usual if name in given and given[name] != usual[name]}
