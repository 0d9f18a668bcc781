"""Attention."""

from __future__ import annotations

from dlbridge.frameworks.keras.rules import rules
from dlbridge.source.code import call
from dlbridge.source.op import Emit, Op


@rules("Attention")
def attention(op: Op) -> Emit:
    if any(op.used(i) for i in (1, 2, 3)) or any(op.has(i) for i in (4, 5, 6)):
        op.refuse("past and present keys, and scores as an output")
    heads = (op.attr("q_num_heads"), op.attr("kv_num_heads")) if op.rank() == 3 else None
    keywords = {
        "mask": op[3] if op.has(3) else None,
        "heads": heads,
        "is_causal": True if op.attr("is_causal") else None,
        "scale": op.attr("scale"),
        "softcap": op.attr("softcap") or None,
    }
    first = [op[0], op[1], op[2]]
    code = call("attention", *first, **{k: v for k, v in keywords.items() if v is not None})
    targets = "{0}" + ", _" * 0
    return Emit(code, targets=targets)
