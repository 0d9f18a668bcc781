"""Normalisations."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import FORM, kinds_of, rules
from dlbridge.ops import traits
from dlbridge.passes.layout import DOMAIN
from dlbridge.source.arrays.normalization import batch_counter, batch_norm_on_batch, does_nothing
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, call, code
from dlbridge.source.weights import Weight


def _epsilon(op: Op, default: float) -> dict[str, Any]:
    value = op.attr("epsilon")
    return {} if value == default else {"epsilon": value}


def _affine(op: Op, trains: bool = True) -> tuple[dict[str, Weight], dict[str, Any], list[int]]:
    """Scale and shift, inputs 1 and 2, of a Keras layer, which has each or not, and trains all that it has or nothing.

    Args:
        op: The node.
        trains: Whether the layer trains.

    Returns:
        What the layer has of them; its keywords for what it has not; and the inputs that come after the layer.
    """
    weights: dict[str, Weight] = {}
    keywords: dict[str, Any] = {}
    after: list[int] = []
    for index, slot, keyword, number in ((1, "gamma", "scale", 1.0), (2, "beta", "center", 0.0)):
        weight, value = op.weight(index), op.value(index)
        fits = (
            weight is not None
            and not after
            and kinds_of({slot: weight}, op.node) == {"parameter" if trains else "frozen"}
        )
        if not fits:
            keywords[keyword] = False
        if fits:
            weights[slot] = weight  # type: ignore[assignment]
        elif value is not None and not does_nothing(op, index, number):
            after.append(index)
    return weights, keywords, after


def _scaled(op: Op, made: Code, after: list[int], last: bool) -> Code:
    """A normalised tensor, scaled and shifted by the inputs that no layer holds."""
    shape = (-1, *[1] * (op.rank() - 2))
    for index in after:
        value = op[index] if last else call("ops.reshape", op[index], shape)
        made = code("{} * {}", value, made) if index == 1 else code("{} + {}", value, made)
    return made


#: Statistics in training -> the layer that has them (``traits.STATISTICS``).
_BATCH_NORMS = {"instance": "InstanceStatisticsNormalization", "running": "FrozenStatisticsNormalization"}


@rules("BatchNormalization", domain=DOMAIN)
@rules("BatchNormalization")
def batch_norm(op: Op) -> Emit | Code:
    last = op.node.domain == DOMAIN or op.rank() <= 2
    if op.attr("training_mode"):
        return batch_norm_on_batch(op, -1 if last else 1)
    state = {"moving_mean": op.weight(3), "moving_variance": op.weight(4)}
    if None in state.values() or state["moving_mean"] == state["moving_variance"]:
        keywords = {"offset": op[2], "scale": op[1], **_epsilon(op, 1e-3)}
        return call("ops.batch_normalization", op.x, op[3], op[4], axis=-1 if last else 1, **keywords)
    statistics = op.node.metadata_props.get(traits.STATISTICS, "batch")
    weights, without, after = _affine(op)
    if statistics == "running" and not weights:
        weights, without, after = _affine(op, trains=False)
    keywords = _epsilon(op, 1e-3) | ({} if last else {"axis": 1})
    keywords |= {} if op.attr("momentum") == 0.99 or statistics == "running" else {"momentum": op.attr("momentum")}
    keywords |= without
    name, held = _batch_norm_layer(op, statistics, state)  # type: ignore[arg-type]
    if statistics == "running" and (not weights or kinds_of(weights, op.node) == {"frozen"}):
        name = "layers.BatchNormalization"
        keywords |= {} if weights else {"trainable": False}
    layer = Layer(call(name, **keywords), weights | held)
    return Emit(_scaled(op, call(LAYER, op.x), after, last), layer)


def _batch_norm_layer(op: Op, statistics: str, state: dict[str, Weight]) -> tuple[str, dict[str, Weight]]:
    """The class of the layer by how its statistics move, and its state."""
    if statistics in _BATCH_NORMS:
        return _BATCH_NORMS[statistics], state
    if op.node.metadata_props.get(traits.AVERAGE) == "cumulative":
        counter = batch_counter(op)
        batches = Weight.of(counter) if counter is not None else Weight(fill=0, shape=())
        return "CumulativeBatchNormalization", state | {"batches": batches}
    is_unbiased = op.node.metadata_props.get(traits.RUNNING_VARIANCE) == "unbiased"
    return "UnbiasedBatchNormalization" if is_unbiased else "layers.BatchNormalization", state


@rules("LayerNormalization", domain=FORM)
@rules("LayerNormalization")
def layer_norm(op: Op) -> Emit | Code:
    rank, axis = op.rank(), op.axis(default=-1)
    axes = list(range(axis, rank))
    full = op.shape(1) == (op.shape() or [])[axis:]
    weights, without, after = _affine(op, trains=_trains(op))
    if op.used(1) or op.used(2) or after or op.functional or not full:
        arguments = [op.x, op[1], op[2] if op.has(2) else None, axes, op.attr("epsilon")]
        outputs = len(op.node.outputs)
        result = call("layer_norm", *arguments)
        return result if outputs > 1 else code("{}[0]", result)
    keywords = _epsilon(op, 1e-3) | ({} if axis == rank - 1 else {"axis": [a - rank for a in axes]}) | without
    return Emit(call(LAYER, op.x), Layer(call("layers.LayerNormalization", **keywords), weights))


def _trains(op: Op) -> bool:
    """Whether a scale or a shift trains."""
    given = [op.value(index) for index in (1, 2)]
    return any(v is not None and v.is_initializer() and traits.is_trained(v) for v in given)


@rules("RMSNormalization", domain=FORM)
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
    if op.functional:
        op.refuse("a group normalisation within a function")
    weights, without, after = _affine(op, trains=_trains(op))
    new = call("layers.GroupNormalization", groups, **_epsilon(op, 1e-3), **without)
    return Emit(_scaled(op, call(LAYER, op.x), after, True), Layer(new, weights))


@rules("LpNormalization")
def lp_normalization(op: Op) -> Code:
    p, axis = op.attr("p"), op.attr("axis")
    if op.dtype() in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        return call("ops.normalize", op.x, **({} if axis == -1 else {"axis": axis}), **({} if p == 2 else {"order": p}))
    return call("ops.divide_no_nan", op.x, call("lp_norm", op.x, p, axis))  # ops.normalize rounds short norms up
