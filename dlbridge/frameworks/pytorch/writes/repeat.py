"""Further calls of a module: the writer says how, once it knows the module's own code."""

from __future__ import annotations

from dlbridge.frameworks.pytorch.repeats import DOMAIN
from dlbridge.frameworks.pytorch.rules import rules
from dlbridge.source.code import join
from dlbridge.source.op import Emit, Op


@rules("Call", domain=DOMAIN)
def call(op: Op) -> Emit:
    return Emit(join(", ", [op[i] for i in range(len(op.node.inputs))]))
