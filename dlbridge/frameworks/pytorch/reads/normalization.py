"""Normalisations and distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from dlbridge.frameworks.pytorch.fx.tensors import rank, sizes, with_sizes
from dlbridge.frameworks.pytorch.graph.reading import Op, reads
from dlbridge.frameworks.pytorch.reads.reduction import axes_of
from dlbridge.ops import traits


def _filled(op: Op, value: ir.Value | None, shape: list[int], fill: float, dtype: Any) -> ir.Value:
    """A weight, or a constant in place of a missing one."""
    return op.constant(np.full(shape, fill), dtype) if value is None else value


@reads("aten.batch_norm", "aten.instance_norm")
def norm(
    op: Op,
    x: ir.Value,
    weight: ir.Value | None,
    bias: ir.Value | None,
    mean: ir.Value | None,
    var: ir.Value | None,
    of_input: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> ir.Value:
    """Batch or instance norm; ``of_input`` says that it takes the statistics of its input, not the running ones."""
    own, channels = "instance" if "instance" in op.name else "batch", [sizes(x)[1]]
    dtype = weight.dtype if weight is not None else x.dtype
    scale, shift = _filled(op, weight, channels, 1, dtype), _filled(op, bias, channels, 0, dtype)
    if not of_input and mean is not None and var is not None:
        return _by_running_statistics(op, x, [scale, shift, mean, var], momentum, eps, own)
    if own == "instance":
        return op("InstanceNormalization", x, scale, shift, epsilon=eps)
    mean, var = op.constant(np.zeros(channels), dtype), op.constant(np.ones(channels), dtype)
    y, *_ = op("BatchNormalization", x, scale, shift, mean, var, outputs=3, epsilon=eps, training_mode=1)
    return y


def _by_running_statistics(
    op: Op, x: ir.Value, weights: list[ir.Value], momentum: float, eps: float, own: str
) -> ir.Value:
    """Batch or instance norm, which uses other statistics in training.

    Args:
        op: The call.
        x: What is normalised.
        weights: Scale, shift, running mean and running variance.
        momentum: As torch has it: how much of the new statistics goes into the running ones.
        eps: Is added to the variance.
        own: Whose statistics it takes in training (``traits.STATISTICS``).
    """
    statistics = own
    if op.layer_path in op.training.in_eval:
        statistics = "running"
    elif weights[2].name in op.training.calls:
        moves, momentum = op.training.calls[weights[2].name]
        statistics = own if moves else "running"
    made = op("BatchNormalization", x, *weights, epsilon=eps, momentum=1 - momentum)
    notes = made.producer().metadata_props
    notes[traits.RUNNING_VARIANCE] = "unbiased"
    if statistics != "batch":
        notes[traits.STATISTICS] = statistics
    if op.layer_path in op.training.cumulative and statistics != "running":
        notes[traits.AVERAGE] = "cumulative"
    return made


@reads("aten._native_batch_norm_legit_no_training")
def batch_norm_no_training(
    op: Op, x: ir.Value, weight: Any, bias: Any, mean: ir.Value, var: ir.Value, momentum: float, eps: float
) -> list[ir.Value | None]:
    return [norm(op, x, weight, bias, mean, var, False, momentum, eps), None, None]


@reads("aten.layer_norm")
def layer_norm(
    op: Op,
    x: ir.Value,
    normalized_shape: list[int],
    weight: ir.Value | None = None,
    bias: ir.Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> ir.Value:
    scale = _filled(op, weight, normalized_shape, 1, x.dtype)
    return op("LayerNormalization", x, scale, bias, axis=-len(normalized_shape), epsilon=eps)


@reads("aten.native_layer_norm")
def native_layer_norm(op: Op, x: ir.Value, shape: Any, weight: Any, bias: Any, eps: float) -> list[ir.Value | None]:
    return [layer_norm(op, x, shape, weight, bias, eps), *_statistics(op, x, list(range(-len(shape), 0)), eps, 1)]


def _statistics(op: Op, x: ir.Value, axes: list[int], eps: float, keepdims: int) -> list[ir.Value]:
    """(mean along axes, reciprocal of the standard deviation)."""
    mean = op("ReduceMean", x, axes, keepdims=1)
    apart = x - mean
    scale = op("Reciprocal", op("Sqrt", op("ReduceMean", apart * apart, axes, keepdims=keepdims) + eps))
    return [mean if keepdims else op("Squeeze", mean, axes), scale]


@reads("aten.rms_norm")
def rms_norm(
    op: Op, x: ir.Value, normalized_shape: list[int], weight: ir.Value | None = None, eps: float | None = None
) -> ir.Value:
    if eps is None:
        eps = torch.finfo(op.val.dtype).eps
    scale = _filled(op, weight, normalized_shape, 1, x.dtype)
    return op("RMSNormalization", x, scale, axis=-len(normalized_shape), epsilon=eps)


@reads("aten.group_norm")
def group_norm(
    op: Op,
    x: ir.Value,
    num_groups: int,
    weight: ir.Value | None = None,
    bias: ir.Value | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> ir.Value:
    channels = [sizes(x)[1]]
    scale, shift = _filled(op, weight, channels, 1, x.dtype), _filled(op, bias, channels, 0, x.dtype)
    return op("GroupNormalization", x, scale, shift, num_groups=num_groups, epsilon=eps)


@reads("aten.native_group_norm")
def native_group_norm(
    op: Op, x: ir.Value, weight: Any, bias: Any, n: Any, c: Any, hxw: Any, group: int, eps: float
) -> list[ir.Value | None]:
    grouped = op("Reshape", x, [n, group, -1])
    return [group_norm(op, x, group, weight, bias, eps), *_statistics(op, grouped, [2], eps, 0)]


@reads("aten.dist")
def dist(op: Op, x: ir.Value, y: ir.Value, p: float = 2) -> ir.Value:
    return vector_norm(op, x - y, p)


@reads("aten._pdist_forward")
def pdist(op: Op, x: ir.Value, p: float = 2) -> ir.Value:
    """The distance of each row to each later row."""
    count = sizes(x)[0]
    if not isinstance(count, int):
        op.refuse("pdist of rows whose number is not fixed")
    pairs = np.triu_indices(count, 1)
    rows = [with_sizes(op("Gather", x, op.constant(i), axis=0), [len(i), *sizes(x)[1:]]) for i in pairs]
    return vector_norm(op, rows[0] - rows[1], p, -1)


@reads("aten._cdist_forward")
def cdist(op: Op, x: ir.Value, y: ir.Value, p: float, mode: int | None) -> ir.Value:
    """The distance of each row of one tensor to each row of the other."""
    return vector_norm(op, op.unsqueeze(x, [-2]) - op.unsqueeze(y, [-3]), p, -1)


@reads("aten.linalg_vector_norm", "aten.norm.ScalarOpt_dim", "aten.norm.Scalar", "aten.frobenius_norm")
def vector_norm(
    op: Op, x: ir.Value, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> ir.Value:
    axes = axes_of(x, dim) if rank(x) else []
    x = op.cast(x)
    if not axes:  # a tensor of rank 0: its norm is its absolute value, or whether it is not 0
        return op.cast(op("Not", op("Equal", x, 0)), x.dtype) if ord == 0 else op("Abs", x)
    if ord is None or ord == 2:
        return op("ReduceL2", x, axes, keepdims=int(keepdim))
    if ord == 1:
        return op("ReduceL1", x, axes, keepdims=int(keepdim))
    size = op("Abs", x)
    if ord in (float("inf"), float("-inf")):
        return op("ReduceMax" if ord > 0 else "ReduceMin", size, axes, keepdims=int(keepdim))
    if ord == 0:
        count = op.cast(op("Not", op("Equal", x, 0)), x.dtype)
        return op("ReduceSum", count, axes, keepdims=int(keepdim))
    total = op("ReduceSum", op("Pow", size, float(ord)), axes, keepdims=int(keepdim))
    return op("Pow", total, 1 / float(ord))


@reads("aten._weight_norm", "aten._weight_norm_interface")
def weight_norm(op: Op, v: ir.Value, g: ir.Value, dim: int = 0) -> Any:
    """v by its norms, times g: one norm for each slice along ``dim`` (of numbers their size), or of all where it is -1.

    torch's own decomposition takes the norm of all for a vector (torch 2.13).
    """
    axes = [axis for axis in range(rank(v)) if dim == -1 or axis != dim % rank(v)]
    norm = op("ReduceL2", v, axes, keepdims=int(dim != -1)) if axes else op("Abs", v)
    made = v * (g / norm)
    return [made, norm] if op.name.endswith("interface") else made
