"""Where the largest or smallest along an axis is."""

from __future__ import annotations

from dlbridge.frameworks.keras.rules import rules
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call, code


@rules("ArgMax", "ArgMin")
def arg_extreme(op: Op) -> Code:
    function, axis = f"ops.{op.key.lower()}", op.axis()
    keywords = {"axis": axis} | ({"keepdims": True} if op.attr("keepdims") else {})
    # TensorFlow's backend takes -0.0 for less than 0.0.
    x = code("{} + 0.0", op.x) if op.dtype().is_floating_point() else op.x
    if not op.attr("select_last_index"):
        return call("ops.cast", call(function, x, **keywords), "int64")
    flipped = call(function, call("ops.flip", x, axis=axis), **keywords)
    return call("ops.cast", code("{} - 1 - {}", op.dim(0, axis), flipped), "int64")
