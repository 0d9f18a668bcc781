"""One rule an op: when the transpose of an input can go behind the op, and how.

Each rule is a law ``op(transpose(x)) == transpose(op'(x))``; the property test runs them all on random graphs.
"""

from __future__ import annotations

from dlbridge.ops import extension
from dlbridge.ops.elementwise import BROADCASTING_OPS, UNARY_OPS
from dlbridge.passes.layout import along_axes, elementwise, reshapes
from dlbridge.passes.layout.along_axes import AXIS_OPS, REDUCTIONS
from dlbridge.passes.layout.transposes import Rule

#: (domain, op type) -> the rule.
SINKS: dict[tuple[str, str], Rule] = {
    **{(extension.DOMAIN, op): elementwise.dropout for op in extension.NOISE_OPS},
    **{(extension.DOMAIN, op): elementwise.broadcasting for op in extension.elementwise_ops()},
    **{("", op): elementwise.unary for op in UNARY_OPS},
    **{("", op): elementwise.broadcasting for op in BROADCASTING_OPS},
    **{("", op): along_axes.reduction for op in REDUCTIONS},
    **{("", op): along_axes.along_axis for op in AXIS_OPS},
    ("", "Pad"): along_axes.pad,
    ("", "Slice"): along_axes.cut,
    ("", "Squeeze"): along_axes.squeeze,
    ("", "Unsqueeze"): along_axes.unsqueeze,
    ("", "Resize"): along_axes.resize,
    **{("", op): along_axes.cumulation for op in ("CumSum", "CumProd")},
    **{("", op): along_axes.one_along for op in ("ArgMax", "ArgMin", "Gather")},
    ("", "Reshape"): reshapes.reshape_rule,
    ("", "Flatten"): reshapes.flatten_rule,
}

__all__ = ["AXIS_OPS", "REDUCTIONS", "SINKS"]
