"""Special functions: those of JAX where it has them, else their formulas, which are copied into the written file."""

from __future__ import annotations

from dlbridge.frameworks.nnx.rules import NNX, rules
from dlbridge.ops import special
from dlbridge.ops.extension import DOMAIN
from dlbridge.source.code import Code, call
from dlbridge.source.op import Op


@rules(*special.FUNCTIONS, domain=DOMAIN)
def function(op: Op) -> Code:
    if op.key in ("Erfc", "Erfinv"):
        return NNX.call(op.key.lower(), op.x)
    return call(special.FUNCTIONS[op.key].__name__, *op.tensors)
