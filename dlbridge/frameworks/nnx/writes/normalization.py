"""Normalisations."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.nnx.rules import RNGS, param_dtype, rules
from dlbridge.ops import traits
from dlbridge.passes.layout import DOMAIN
from dlbridge.source.arrays.normalization import batch_norm_on_batch, does_nothing
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, Literal, call, code
from dlbridge.source.weights import Weight

_STATISTICS = {"batch": "nnx.BatchNorm", "running": "FrozenBatchNorm"}


def _affine(op: Op) -> tuple[dict[str, Weight], dict[str, Any]] | None:
    """Scale and shift, inputs 1 and 2, as a layer's weights, and its keywords for what it lacks; None where they are
    no weights of a layer."""
    weights: dict[str, Weight] = {}
    keywords: dict[str, Any] = {}
    for index, slot, number in ((1, "scale", 1.0), (2, "bias", 0.0)):
        weight = op.weight(index)
        value = op.value(index)
        if weight is not None and value is not None and traits.is_parameter(value):
            weights[slot] = weight
        elif does_nothing(op, index, number):
            keywords[f"use_{slot}"] = False
        else:
            return None
    return weights, keywords


def _layer(op: Op, kind: str, weights: dict[str, Weight], *sizes: Any, **keywords: Any) -> Emit:
    dtype = param_dtype(op, 1) if op.has(1) else None
    new = call(kind, *sizes, **keywords, param_dtype=dtype, rngs=RNGS)
    return Emit(call(LAYER, op.x), Layer(new, weights))


def _channels(op: Op, last: bool) -> int:
    size = (op.shape() or [None])[-1 if last else 1]
    if not isinstance(size, int) and op.has(1):
        size = (op.shape(1) or [None])[0]
    if not isinstance(size, int):
        op.refuse("the number of channels is not known")
    return size  # type: ignore[return-value]


@rules("BatchNormalization", domain=DOMAIN)
@rules("BatchNormalization")
def batch_norm(op: Op) -> Emit | Code:
    last = op.node.domain == DOMAIN or op.rank() <= 2
    axis = -1 if last else 1
    if op.attr("training_mode"):
        return batch_norm_on_batch(op, axis)
    state = {"mean": op.weight(3), "var": op.weight(4)}
    affine = _affine(op)
    statistics = op.node.metadata_props.get(traits.STATISTICS, "batch")
    if None in state.values() or state["mean"] == state["var"] or affine is None or op.rank() == 1:
        values = op.x, op[3], op[4], axis
        return call("batch_normalization", *values, offset=op[2], scale=op[1], epsilon=op.attr("epsilon"))
    if statistics not in _STATISTICS or op.node.metadata_props.get(traits.AVERAGE) == "cumulative":
        op.refuse("Flax NNX has no batch normalisation with such statistics in training")
    kind = _STATISTICS[statistics]
    if kind == "nnx.BatchNorm" and op.node.metadata_props.get(traits.RUNNING_VARIANCE) == "unbiased":
        kind = "UnbiasedBatchNorm"
    weights, without = affine
    keywords = {"axis": None if last else 1} | _usual(op, momentum=0.99, epsilon=1e-5) | without
    if kind != "FrozenBatchNorm":  # the mean of squares less the square of the mean is mostly rounding in float32
        keywords |= {"use_fast_variance": False}
    features = Literal(_channels(op, last), "num_features")
    return _layer(op, kind, weights | state, features, **keywords)  # type: ignore[arg-type]


def _usual(op: Op, **defaults: float) -> dict[str, Any]:
    return {name: None if op.attr(name) == value else op.attr(name) for name, value in defaults.items()}


@rules("LayerNormalization")
def layer_norm(op: Op) -> Emit | Code:
    affine, axis = _affine(op), op.axis(default=-1)
    if affine is None or op.functional or not _is_over_features(op, axis):
        axes = tuple(range(axis, op.rank()))
        result = call("layer_norm", op.x, op[1], op[2] if op.has(2) else None, axes, op.attr("epsilon"))
        return result if len(op.node.outputs) > 1 else code("{}[0]", result)
    weights, without = affine
    keywords = _usual(op, epsilon=1e-6) | without | {"use_fast_variance": False}
    features = Literal((op.shape() or [])[axis], "num_features")
    made = _layer(op, "nnx.LayerNorm", weights, features, **keywords)
    return Emit(made.code, made.layer, targets=None if len(op.node.outputs) == 1 else "{0}")


def _is_over_features(op: Op, axis: int) -> bool:
    """Whether a LayerNormalization is over the last axis alone, with a weight for each place on it, and nothing reads
    the mean or the deviation."""
    size = (op.shape() or [])[axis:]
    weights = [slot for slot in (1, 2) if slot == 1 or op.has(slot)]
    is_full = all(op.shape(slot) == size for slot in weights)
    return axis == op.rank() - 1 and is_full and not op.used(1) and not op.used(2)


@rules("RMSNormalization")
def rms_norm(op: Op) -> Emit | Code:
    rank, axis, scale = op.rank(), op.axis(default=-1), op.weight(1)
    size = (op.shape() or [])[axis:]
    if scale is None or axis != rank - 1 or op.shape(1) != size or op.functional:
        return call("rms_norm", op.x, op[1], tuple(range(axis, rank)), op.attr("epsilon"))
    features = Literal(size[0], "num_features")
    return _layer(op, "nnx.RMSNorm", {"scale": scale}, features, **_usual(op, epsilon=1e-6))


@rules("GroupNormalization", domain=DOMAIN)
@rules("GroupNormalization")
def group_norm(op: Op) -> Emit | Code:
    return _by_groups(op, op.attr("num_groups"))


@rules("InstanceNormalization", domain=DOMAIN)
@rules("InstanceNormalization")
def instance_norm(op: Op) -> Emit | Code:
    return _by_groups(op, None)


def _by_groups(op: Op, groups: int | None) -> Emit | Code:
    """A layer that normalises by groups of channels; None for groups of one channel each."""
    last = op.node.domain == DOMAIN or op.rank() <= 2
    affine = _affine(op)
    if affine is None or op.functional or not last:
        return call("group_norm", op.x, op[1], op[2], groups, -1 if last else 1, op.attr("epsilon"))
    weights, without = affine
    count = _channels(op, last)
    keywords = _usual(op, epsilon=1e-6) | without | {"use_fast_variance": False}
    sizes = [Literal(count, "num_features"), Literal(groups or count, "num_groups")]
    return _layer(op, "nnx.GroupNorm", weights, *sizes, **keywords)


@rules("LpNormalization")
def lp_normalization(op: Op) -> Code:
    norm = call("lp_norm", op.x, op.attr("p"), op.attr("axis"))
    return code("{x} / jnp.where({n} == 0, 1, {n})", x=op.x, n=norm)
