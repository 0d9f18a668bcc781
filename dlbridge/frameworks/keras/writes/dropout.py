"""Layers that act in training alone: dropout, noise, augmentation."""

from __future__ import annotations

import json

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import keras_dtype, rules
from dlbridge.ops.extension import AUGMENTATIONS, DOMAIN, shared_axes
from dlbridge.source.code import Code, call, code
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op


@rules("Dropout")
def dropout(op: Op) -> Emit | Code:
    if op.used(1):
        ratio = op.scalar(1) if op.has(1) else 0.5
        if ratio != 0 and op.has(2) and op.scalar(2) is not False and op.scalar(2) != 0:
            op.refuse("Keras' dropout does not give its mask")
        return code("{}, {}", op.x, call("ops.ones_like", op.x, dtype="bool"))
    ratio = op.scalar(1) if op.has(1) else 0.5
    if ratio is None:
        return code("{}", op.x)  # a layer's rate is a number: what computes its own is left in inference form
    return _layer(op, call("layers.Dropout", ratio))


def _layer(op: Op, new: Code) -> Emit | Code:
    """A call of a layer; nothing in a function, where no layer can live."""
    return code("{}", op.x) if op.functional else Emit(call(LAYER, op.x), Layer(new))


@rules("BroadcastDropout", domain=DOMAIN)
def broadcast_dropout(op: Op) -> Emit | Code:
    rank, axes, rate = op.rank(), shared_axes(op.node), op.attr("ratio")
    if 3 <= rank <= 5 and axes == list(range(1, rank - 1)):
        return _layer(op, code(f"layers.SpatialDropout{rank - 2}D({{rate}})", rate=rate))
    if 4 <= rank <= 5 and axes == list(range(2, rank)):
        first = 'data_format="channels_first"'
        return _layer(op, code(f"layers.SpatialDropout{rank - 2}D({{rate}}, {first})", rate=rate))
    return _layer(op, code(f"layers.Dropout({{rate}}{_noise_shape(op)})", rate=rate))


def _noise_shape(op: Op) -> str:
    axes = shared_axes(op.node)
    return f", noise_shape={tuple(1 if axis in axes else None for axis in range(op.rank()))}" if axes else ""


@rules("AlphaDropout", domain=DOMAIN)
def alpha_dropout(op: Op) -> Emit | Code:
    return _layer(op, code(f"layers.AlphaDropout({{rate}}{_noise_shape(op)})", rate=op.attr("ratio")))


@rules("GaussianDropout", domain=DOMAIN)
def gaussian_dropout(op: Op) -> Emit | Code:
    return _layer(op, code("layers.GaussianDropout({rate})", rate=op.attr("ratio")))


@rules("GaussianNoise", domain=DOMAIN)
def gaussian_noise(op: Op) -> Emit | Code:
    return _layer(op, code("layers.GaussianNoise({stddev})", stddev=op.attr("stddev")))


@rules("Augmentation", domain=DOMAIN)
def augmentation(op: Op) -> Emit | Code:
    kind, text = op.attr("kind", ""), op.attr("config", "{}")
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    if kind not in AUGMENTATIONS or not isinstance(config, dict) or not all(map(str.isidentifier, config)):
        op.refuse(f"no augmentation of Keras: {kind} {text}")
    if op.dtype() != ir.DataType.FLOAT:
        config["dtype"] = keras_dtype(op, op.dtype())
    return _layer(op, call(f"layers.{kind}", **config))
