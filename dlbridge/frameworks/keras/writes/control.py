"""Control flow: a branch over functions that hold the bodies."""

from __future__ import annotations

from dlbridge.frameworks.keras.rules import rules
from dlbridge.source.arrays.control import are_alike
from dlbridge.source.code import Code, call, code
from dlbridge.source.op import Op


@rules("If")
def if_(op: Op) -> Code:
    """A branch of the graph where both branches give the same shapes, as every backend wants; else Python's own if."""
    graphs = [op.node.attributes[f"{name}_branch"].as_graph() for name in ("then", "else")]
    yes, no = (op.function(f"{name}_branch") for name in ("then", "else"))
    branches = call(yes.name, *yes.captured), call(no.name, *no.captured)
    if op.shape() == [] and are_alike(*(list(g.outputs) for g in graphs)):
        return code("ops.cond({}, lambda: {}, lambda: {})", op[0], *branches)
    return code("{} if ops.convert_to_numpy({}).all() else {}", branches[0], op[0], branches[1])
