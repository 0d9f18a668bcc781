"""Fake quantization in training, and the ops of quantized graphs (torch.export's PT2E)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import rank, sizes
from dlbridge.frameworks.pytorch.graph.reading import Op, reads


def _tensors(op: Op, x: ir.Value, scale: Any, zero_point: Any, axis: int | None) -> list[ir.Value]:
    """Scale and zero point as tensors that broadcast to x: of rank 0, or along an axis."""
    scale = op.cast(scale, x.dtype)
    if zero_point is None:
        zero_point = op.filled(0, ir.DataType.INT32, sizes(scale))
    zero_point = op.cast(zero_point, ir.DataType.INT32)
    if axis is None:
        return [op.reshape(v, []) if rank(v) else v for v in (scale, zero_point)]
    axis %= rank(x)
    after = list(range(1, rank(x) - axis))
    return [op.unsqueeze(v, after) if after else v for v in (scale, zero_point)]


def _fake(op: Op, x: ir.Value, scale: Any, zero_point: Any, axis: int | None, low: int, high: int) -> Any:
    """The tensor; of the ops that give a mask too, for their gradient, a list without it."""
    tensors = _tensors(op, x, scale, zero_point, axis)
    made = op.extension("FakeQuantize", x, *tensors, quant_min=low, quant_max=high)
    return [made, None] if isinstance(op.val, (list, tuple)) else made


@reads("aten.fake_quantize_per_tensor_affine", "aten.fake_quantize_per_tensor_affine_cachemask")
def per_tensor(op: Op, x: ir.Value, scale: Any, zero_point: Any, quant_min: int, quant_max: int) -> Any:
    return _fake(op, x, scale, zero_point, None, quant_min, quant_max)


@reads("aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams")
def per_tensor_if_on(
    op: Op, x: ir.Value, scale: Any, zero_point: Any, fake_quant_enabled: ir.Value, quant_min: int, quant_max: int
) -> list[ir.Value | None]:
    is_on = _is_on(op, fake_quant_enabled, "quantisation")
    return per_tensor(op, x, scale, zero_point, quant_min, quant_max) if is_on else [x, None]


@reads("aten.fake_quantize_per_channel_affine", "aten.fake_quantize_per_channel_affine_cachemask")
def per_channel(op: Op, x: ir.Value, scale: Any, zero_point: Any, axis: int, quant_min: int, quant_max: int) -> Any:
    return _fake(op, x, scale, zero_point, axis, quant_min, quant_max)


@reads("aten.fused_moving_avg_obs_fake_quant")
def observed(
    op: Op,
    x: ir.Value,
    observer_on: ir.Value,
    fake_quant_on: ir.Value,
    running_min: Any,
    running_max: Any,
    scale: ir.Value,
    zero_point: ir.Value,
    averaging_const: float,
    quant_min: int,
    quant_max: int,
    ch_axis: int,
    per_row_fake_quant: bool = False,
    symmetric_quant: bool = False,
) -> ir.Value:
    """The fake quantization modules that ``prepare_qat`` inserts."""
    if _is_on(op, observer_on, "observation"):
        op.refuse(
            "quantisation whose scale follows the data at inference too: "
            "call module.apply(torch.ao.quantization.disable_observer) before it is read"
        )
    if not _is_on(op, fake_quant_on, "quantisation"):
        return op("Identity", x)
    return _fake(op, x, scale, zero_point, ch_axis if per_row_fake_quant else None, quant_min, quant_max)


def _is_on(op: Op, flag: ir.Value, what: str) -> bool:
    """The number in a buffer of the module."""
    if flag.const_value is None:
        op.refuse(f"{what} that the model turns on and off by itself")
    return bool(np.asarray(flag.const_value.numpy()).all())


# --- quantised graphs ----------------------------------------------------------------------------------------------


@reads("quantized_decomposed.quantize_per_tensor", "quantized_decomposed.quantize_per_channel")
def quantize(op: Op, x: ir.Value, scale: Any, zero_point: Any, *of_steps: Any) -> ir.Value:
    """``of_steps``: the axis, if there is a scale for each channel; the range of the steps, and their dtype."""
    *axis, low, high, _ = of_steps
    scale, zero_point = _tensors(op, x, scale, zero_point, *(axis or [None]))
    steps = op("Round", x * op("Reciprocal", scale)) + op.cast(zero_point, x.dtype)
    return op.cast(op("Clip", steps, float(low), float(high)))


@reads("quantized_decomposed.dequantize_per_tensor", "quantized_decomposed.dequantize_per_channel")
def dequantize(op: Op, x: ir.Value, scale: Any, zero_point: Any, *of_steps: Any, out_dtype: Any = None) -> ir.Value:
    """``of_steps`` as of ``quantize``."""
    axis = of_steps[0] if op.name == "dequantize_per_channel" else None
    x = op.cast(x)
    scale, zero_point = _tensors(op, x, scale, zero_point, axis)
    return (x - op.cast(zero_point)) * scale
