"""Special functions: those of Keras where it has them, else their formulas, which are copied into the written file."""

from __future__ import annotations

from dlbridge.frameworks.keras.rules import rules
from dlbridge.ops import special
from dlbridge.ops.extension import DOMAIN
from dlbridge.source.code import Code, call
from dlbridge.source.op import Op

_OWN = {"Erfc": "ops.erfc", "Erfinv": "ops.erfinv"}


@rules(*special.FUNCTIONS, domain=DOMAIN)
def function(op: Op) -> Code:
    kind = op.key
    return call(_OWN.get(kind, special.FUNCTIONS[kind].__name__), *op.tensors)
