"""Losses of the standard."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.rules import first_output, rules
from dlbridge.source.op import Emit, Op
from dlbridge.source.tree.code import Code, call, code


@rules("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(op: Op) -> Emit | Code:
    from_logits = op.key == "SoftmaxCrossEntropyLoss"
    name = "F.cross_entropy" if from_logits else "F.nll_loss"
    target = op[1] if op.dtype(1) == ir.DataType.INT64 else code("{}.long()", op[1])
    keywords: dict[str, Any] = {"weight": op[2]} if op.has(2) else {}
    ignored, reduction = op.attr("ignore_index"), op.attr("reduction")
    keywords |= {} if ignored in (None, -100) else {"ignore_index": ignored}
    keywords |= {} if reduction == "mean" else {"reduction": reduction}
    value = call(name, op.x, target, **keywords)
    if len(op.node.outputs) == 2 and op.used(1):
        return code("{}, {}", value, call("F.log_softmax", op.x, dim=1))
    return Emit(value, targets=first_output(op))
