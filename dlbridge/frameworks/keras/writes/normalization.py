"""Normalisations, and dropout."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.rules import rules
from dlbridge.ops import traits
from dlbridge.passes.layout import DOMAIN
from dlbridge.source.code import Code, call, code
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op


def _epsilon(op: Op, default: float) -> dict[str, Any]:
    value = op.attr("epsilon")
    return {} if value == default else {"epsilon": value}


@rules("BatchNormalization", domain=DOMAIN)
@rules("BatchNormalization")
def batch_norm(op: Op) -> Emit | Code:
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    weights = {name: op.weight(i) for i, name in enumerate(names, start=1)}
    last = op.node.domain == DOMAIN or op.rank() <= 2
    if any(w is None for w in weights.values()) or len({w.plain for w in weights.values() if w}) < 4:
        scale = code("{} * ops.rsqrt({} + {})", op[1], op[4], op.attr("epsilon"))
        if not last:
            op.refuse("computed statistics, channels-first")
        return code("({} - {}) * ({}) + {}", op.x, op[3], scale, op[2])
    keywords: dict[str, Any] = _epsilon(op, 1e-3)
    keywords |= {} if last else {"axis": 1}
    keywords |= {} if op.attr("momentum") == 0.99 else {"momentum": op.attr("momentum")}
    unbiased = op.node.metadata_props.get(traits.RUNNING_VARIANCE) == "unbiased"
    name = "UnbiasedBatchNormalization" if unbiased else "layers.BatchNormalization"
    return Emit(call(LAYER, op.x), Layer(call(name, **keywords), weights))  # type: ignore[arg-type]


@rules("LayerNormalization")
def layer_norm(op: Op) -> Emit | Code:
    rank, axis = op.rank(), op.axis(default=-1)
    scale, bias = op.weight(1), op.weight(2)
    axes = list(range(axis, rank))
    full = op.shape(1) == (op.shape() or [])[axis:]
    if op.used(1) or op.used(2) or scale is None or (op.has(2) and bias is None) or not full:
        arguments = [op.x, op[1], op[2] if op.has(2) else None, axes, op.attr("epsilon")]
        outputs = len(op.node.outputs)
        result = call("layer_norm", *arguments)
        return result if outputs > 1 else code("{}[0]", result)
    keywords = _epsilon(op, 1e-3) | ({} if axis == rank - 1 else {"axis": [a - rank for a in axes]})
    weights = {"gamma": scale} | ({"beta": bias} if bias is not None else {})
    if bias is None:
        keywords["center"] = False
    return Emit(call(LAYER, op.x), Layer(call("layers.LayerNormalization", **keywords), weights))


@rules("RMSNormalization")
def rms_norm(op: Op) -> Emit | Code:
    rank, axis = op.rank(), op.axis(default=-1)
    scale = op.weight(1)
    if scale is None or axis != rank - 1 or op.shape(1) != (op.shape() or [])[axis:]:
        return call("rms_norm", op.x, op[1], list(range(axis, rank)), op.attr("epsilon"))
    new = call("layers.RMSNormalization", **_epsilon(op, 1e-6))
    return Emit(call(LAYER, op.x), Layer(new, {"scale": scale}))


@rules("GroupNormalization", domain=DOMAIN)
def group_norm(op: Op) -> Emit:
    weights = {"gamma": op.weight(1), "beta": op.weight(2)}
    if None in weights.values():
        op.refuse("Keras has no group normalisation with computed scales")
    new = call("layers.GroupNormalization", op.attr("num_groups"), **_epsilon(op, 1e-3))
    return Emit(call(LAYER, op.x), Layer(new, weights))  # type: ignore[arg-type]


@rules("InstanceNormalization", domain=DOMAIN)
def instance_norm(op: Op) -> Emit:
    weights = {"gamma": op.weight(1), "beta": op.weight(2)}
    if None in weights.values():
        op.refuse("Keras has no instance normalisation with computed scales")
    new = call("layers.GroupNormalization", -1, **_epsilon(op, 1e-3))
    return Emit(call(LAYER, op.x), Layer(new, weights))  # type: ignore[arg-type]


@rules("Dropout")
def dropout(op: Op) -> Emit | Code:
    if op.used(1):
        op.refuse("Keras' dropout does not give its mask")
    ratio = op.scalar(1) if op.has(1) else 0.5
    if ratio is None:
        op.refuse("its ratio is computed")
    return Emit(call(LAYER, op.x), Layer(call("layers.Dropout", ratio)))


@rules("LpNormalization")
def lp_normalization(op: Op) -> Code:
    p, axis = op.attr("p"), op.attr("axis")
    return call("ops.normalize", op.x, axis=axis if axis != -1 else None, order=p if p != 2 else None)


@rules("MeanVarianceNormalization")
def mean_variance_normalization(op: Op) -> Code:
    return call("standardize", op.x, tuple(op.attr("axes")))


@rules("LRN", domain=DOMAIN)
def local_response_norm(op: Op) -> Code:
    usual = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
    keywords = {name: op.attr(name) for name, value in usual.items() if op.attr(name) != value}
    return call("local_response_norm", op.x, op.attr("size"), **keywords)
