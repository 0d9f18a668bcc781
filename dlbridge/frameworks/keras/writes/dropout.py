"""Layers that act in training alone: dropout, noise, augmentation."""

from __future__ import annotations

import json

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import keras_dtype, rules
from dlbridge.ops.extension import AUGMENTATIONS, DOMAIN, shared_axes
from dlbridge.source.op import Emit, Op
from dlbridge.source.training.training_only import gaussian, in_training, without_mask
from dlbridge.source.tree.code import Code, Literal, call, code


@rules("Dropout")
def dropout(op: Op) -> Emit | Code:
    ones = call("ops.ones_like", op.x, dtype="bool")
    return without_mask(op, lambda ratio: call("layers.Dropout", ratio), ones, "Keras'")


@rules("BroadcastDropout", domain=DOMAIN)
def broadcast_dropout(op: Op) -> Emit | Code:
    rank, axes, rate = op.rank(), shared_axes(op.node), op.attr("ratio")
    if 3 <= rank <= 5 and axes == list(range(1, rank - 1)):
        return in_training(op, code(f"layers.SpatialDropout{rank - 2}D({{rate}})", rate=rate))
    if 4 <= rank <= 5 and axes == list(range(2, rank)):
        first = 'data_format="channels_first"'
        return in_training(op, code(f"layers.SpatialDropout{rank - 2}D({{rate}}, {first})", rate=rate))
    return in_training(op, code(f"layers.Dropout({{rate}}{_noise_shape(op)})", rate=rate))


def _noise_shape(op: Op) -> str:
    axes = shared_axes(op.node)
    return f", noise_shape={tuple(1 if axis in axes else None for axis in range(op.rank()))}" if axes else ""


@rules("AlphaDropout", domain=DOMAIN)
def alpha_dropout(op: Op) -> Emit | Code:
    return in_training(op, code(f"layers.AlphaDropout({{rate}}{_noise_shape(op)})", rate=op.attr("ratio")))


gaussian(rules, lambda kind, what, number: call(f"layers.{kind}", Literal(number, {"ratio": "rate"}.get(what, what))))


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
    return in_training(op, call(f"layers.{kind}", **config))
