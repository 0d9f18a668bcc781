"""Special functions: those that a framework has, else their formulas, which are copied into the written file."""

from __future__ import annotations

from dlbridge.ops.extension import DOMAIN
from dlbridge.ops.special import FUNCTIONS
from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call

special = Family()


@special(*FUNCTIONS, domain=DOMAIN)
def function(op: Op, arrays: ArrayDialect) -> Code:
    own = arrays.special.get(op.key)
    return call(own or FUNCTIONS[op.key].__name__, *op.tensors)
