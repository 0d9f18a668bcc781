"""What nodes do in training that they do not do at inference."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.extension import TRAINING_ONLY_OPS
from dlbridge.ops.keys import is_op, op_key


def draws(node: ir.Node) -> bool:
    """Whether a node draws random numbers in training: dropout, noise, augmentation, attention that drops weights."""
    if is_op(node, "Dropout"):
        ratio = node.inputs[1] if len(node.inputs) > 1 else None
        held = None if ratio is None else ratio.const_value
        return held is None or bool(held.numpy().any())
    return op_key(node) in TRAINING_ONLY_OPS or traits.dropout(node) > 0.0


def acts_otherwise(node: ir.Node) -> bool:
    """Whether a node computes something else in training, or changes its statistics."""
    normalizes = is_op(node, "BatchNormalization") and node.metadata_props.get(traits.STATISTICS) != "running"
    return normalizes or draws(node)
