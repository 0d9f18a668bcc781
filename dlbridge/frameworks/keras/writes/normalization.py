"""Normalisations."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

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
    if op.attr("training_mode"):
        return _batch_norm_on_batch(op, -1 if last else 1)
    if any(w is None for w in weights.values()) or len({w.plain for w in weights.values() if w}) < 4:
        axis, statistics = -1 if last else 1, (op[3], op[4])
        keywords = {"offset": op[2], "scale": op[1], **_epsilon(op, 1e-3)}
        return call("ops.batch_normalization", op.x, *statistics, axis=axis, **keywords)
    keywords = _epsilon(op, 1e-3)
    keywords |= {} if last else {"axis": 1}
    keywords |= {} if op.attr("momentum") == 0.99 else {"momentum": op.attr("momentum")}
    unbiased = op.node.metadata_props.get(traits.RUNNING_VARIANCE) == "unbiased"
    name = "UnbiasedBatchNormalization" if unbiased else "layers.BatchNormalization"
    return Emit(call(LAYER, op.x), Layer(call(name, **keywords), weights))  # type: ignore[arg-type]


def _batch_norm_on_batch(op: Op, axis: int) -> Code:
    values = op.x, op[1], op[2], op[3], op[4]
    made = call("batch_norm_on_batch", *values, axis, epsilon=op.attr("epsilon"), momentum=op.attr("momentum"))
    return made if len(op.node.outputs) == 3 else code("{}[0]", made)


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
@rules("GroupNormalization")
def group_norm(op: Op) -> Emit:
    return _by_groups(op, op.attr("num_groups"))


@rules("InstanceNormalization", domain=DOMAIN)
@rules("InstanceNormalization")
def instance_norm(op: Op) -> Emit:
    return _by_groups(op, -1)


def _by_groups(op: Op, groups: int) -> Emit:
    """Keras' layer; -1 groups are as many as channels."""
    weights = {"gamma": op.weight(1), "beta": op.weight(2)}
    keywords = _epsilon(op, 1e-3)
    if None not in weights.values():
        new = call("layers.GroupNormalization", groups, **keywords)
        return Emit(call(LAYER, op.x), Layer(new, weights))  # type: ignore[arg-type]
    if op.functional:
        op.refuse("a group normalisation within a function")
    new = call("layers.GroupNormalization", groups, **keywords, center=False, scale=False)
    return Emit(code("{} + {} * {}", op[2], op[1], call(LAYER, op.x)), Layer(new))


@rules("LRN", domain=DOMAIN)
@rules("LRN")
def local_response_norm(op: Op) -> Code:
    usual = {"alpha": 1e-4, "beta": 0.75, "bias": 1}
    keywords = {name: op.attr(name) for name, value in usual.items() if op.attr(name) != value}
    return call("local_response_norm", op.x, op.attr("size"), **keywords)


@rules("LpNormalization")
def lp_normalization(op: Op) -> Code:
    p, axis = op.attr("p"), op.attr("axis")
    if op.dtype() in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        return call("ops.normalize", op.x, **({} if axis == -1 else {"axis": axis}), **({} if p == 2 else {"order": p}))
    return call("ops.divide_no_nan", op.x, call("lp_norm", op.x, p, axis))  # ops.normalize rounds short norms up


@rules("MeanVarianceNormalization")
def mean_variance_normalization(op: Op) -> Code:
    return call("standardize", op.x, tuple(op.attr("axes")))
