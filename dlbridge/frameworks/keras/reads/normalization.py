"""Normalisations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite, layer
from dlbridge.ops import traits


def wide(site: CallSite, x: ir.Value) -> ir.Value:
    """Cast half precision to float32, in which Keras normalizes."""
    return site.cast(x, "float32") if x.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) else x


def own(site: CallSite, variable: Any, name: str, x: ir.Value, buffer: bool = False) -> ir.Value:
    """Cast a weight to the dtype of the computation."""
    value = site.build.weight(variable, f"{site.build.path}.{name}", (), buffer)
    return value if value.dtype == x.dtype else site.op("Cast", value, to=x.dtype)


def scale_or(site: CallSite, variable: Any, name: str, shape: list[int], fill: float, x: ir.Value) -> ir.Value:
    """The layer's weight, or a neutral constant if it has none."""
    if variable is not None:
        return own(site, variable, name, x)
    return site.build.fixed(f"{site.build.path}.{name}", np.full(shape, fill, x.dtype.numpy()))  # type: ignore[union-attr]


def channels_second(site: CallSite, x: ir.Value, axis: int) -> tuple[ir.Value, list[int] | None]:
    """(x with its channel axis second, the permutation back)."""
    rank = site.rank(x)
    axis = site.axis(axis, rank)
    if axis == 1 or rank < 2:
        return x, None
    rest = [a for a in range(rank) if a not in (0, axis)]
    perm = [0, axis, *rest]
    return site.transpose(x, perm), [perm.index(a) for a in range(rank)]


#: Class that the writer prints -> how its statistics are updated in training (``traits.STATISTICS``).
_STATISTICS = {"InstanceStatisticsNormalization": "instance", "FrozenStatisticsNormalization": "running"}


@layer("BatchNormalization", "UnbiasedBatchNormalization", "CumulativeBatchNormalization", *_STATISTICS, masks=True)
def batch_norm(site: CallSite) -> Any:
    kind = site.layer
    axis = kind.axis[0] if isinstance(kind.axis, (list, tuple)) else kind.axis
    x, back = channels_second(site, wide(site, site.x), axis)
    size = [int(kind.moving_mean.shape[0])]
    y = site.layer_op(
        "BatchNormalization",
        x,
        scale_or(site, kind.gamma, "weight", size, 1.0, x),
        scale_or(site, kind.beta, "bias", size, 0.0, x),
        own(site, kind.moving_mean, "running_mean", x, buffer=True),
        own(site, kind.moving_variance, "running_var", x, buffer=True),
        epsilon=float(kind.epsilon),
        momentum=float(kind.momentum),
    )
    notes, name = y.producer().metadata_props, site.kind
    notes[traits.RUNNING_VARIANCE] = "biased" if name == "BatchNormalization" else "unbiased"
    statistics = _STATISTICS.get(name) if kind.trainable else "running"
    if statistics is not None:
        notes[traits.STATISTICS] = statistics
    elif name == "CumulativeBatchNormalization":
        notes[traits.AVERAGE] = "cumulative"
        site.build.weight(kind.batches, f"{site.build.path}.num_batches_tracked", (), buffer=True)
    return y if back is None else site.transpose(y, back)


@layer("LayerNormalization", masks=True)
def layer_norm(site: CallSite) -> Any:
    kind = site.layer
    if getattr(kind, "rms_scaling", False):
        return site.reader.open(site)  # scaled by the deviation without being centred: no op of the standard
    return over_last_axes(site, "LayerNormalization", kind.gamma, kind.beta)


@layer("RMSNormalization", masks=True)
def rms_norm(site: CallSite) -> Any:
    return over_last_axes(site, "RMSNormalization", site.layer.scale, None)


def over_last_axes(site: CallSite, op_type: str, scale: Any, bias: Any) -> ir.Value:
    """Normalize over the layer's axes, which are moved to the end and back if necessary."""
    x, rank = wide(site, site.x), site.rank()
    axes = site.axes(x, site.layer.axis)
    rest = [a for a in range(rank) if a not in axes]
    perm = [*rest, *axes]
    x = site.transpose(x, perm)
    shape = site.shape(x)[len(rest) :]
    if scale is None:
        site.require(shape, "an axis whose size is not known")
    weights = [scale_or(site, scale, "weight", shape, 1.0, x)]
    if bias is not None:
        weights.append(own(site, bias, "bias", x))
    y = site.layer_op(op_type, x, *weights, axis=len(rest) - rank, epsilon=float(site.layer.epsilon))
    return site.transpose(y, [perm.index(a) for a in range(rank)])


@layer("GroupNormalization", masks=True)
def group_norm(site: CallSite) -> Any:
    kind = site.layer
    x, back = channels_second(site, wide(site, site.x), kind.axis)
    channels = site.shape(x)[1]
    flat = site.rank(x) == 2
    if flat:
        x = site.unsqueeze(x, 2)
    y = site.layer_op(
        "GroupNormalization",
        x,
        scale_or(site, kind.gamma, "weight", [channels], 1.0, x),
        scale_or(site, kind.beta, "bias", [channels], 0.0, x),
        num_groups=channels if kind.groups == -1 else int(kind.groups),
        epsilon=float(kind.epsilon),
    )
    if flat:
        y = site.squeeze(y, 2)
    return y if back is None else site.transpose(y, back)
