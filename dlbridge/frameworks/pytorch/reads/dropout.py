"""Layers that act in training alone: dropout and noise. Each is kept as a node, in inference form."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import is_float, rank
from dlbridge.frameworks.pytorch.graph.reading import WHOLE_MODULE, Op, reads

#: As with ``F.dropout(x)``, whose ``training`` is True unless it is given.
ALWAYS_ON = "dropout that is on at inference: give it training=self.training, and export in eval mode"


def _does_nothing(op: Op, x: ir.Value, is_on: Any = False) -> bool:
    """Whether the input is of integers, or the module stays in eval mode while the model trains.

    Raises:
        UnsupportedOpError: When it is on at inference.
    """
    if is_on:
        op.refuse(ALWAYS_ON)
    return not is_float(x) or op.layer_path in op.training.in_eval


@reads("aten.dropout")
def dropout(op: Op, x: ir.Value, p: float, train: bool) -> ir.Value:
    """Keep a dropout as a node in inference form, for training."""
    if _does_nothing(op, x, train and p):
        return x
    return op("Dropout", x, op.constant(p, ir.DataType.FLOAT))


@reads("aten.feature_dropout", "aten.alpha_dropout", "aten.feature_alpha_dropout")
def dropout_variant(op: Op, x: ir.Value, p: float, train: bool) -> ir.Value:
    """Dropout of whole features: the noise is shared along all but the first two axes."""
    axes = list(range(2, rank(x))) if op.name.startswith("feature") else []
    if op.name == "feature_dropout" and not axes:
        return dropout(op, x, p, train)
    if _does_nothing(op, x, train and p):
        return x
    kind = "AlphaDropout" if "alpha" in op.name else "BroadcastDropout"
    return op.extension(kind, x, ratio=float(p), axes=axes or None)


@reads("dlbridge.training_only")
def training_only(op: Op, x: ir.Value, kind: str, amount: float, axes: list[int]) -> ir.Value:
    """A drop path or noise module as an op of the domain ``dlbridge`` (see ``export/training_only.py``)."""
    if _does_nothing(op, x):
        return x
    amounts = {"stddev" if kind == "GaussianNoise" else "ratio": float(amount)}
    made = op.extension(kind, x, axes=list(axes) or None, **amounts)
    made.producer().meta[WHOLE_MODULE] = True  # type: ignore[union-attr]
    return made


@reads("aten.native_dropout")
def native_dropout(op: Op, x: ir.Value, p: float, train: bool | None) -> list[ir.Value | None]:
    return [dropout(op, x, p, bool(train)), None]
