"""Control flow: If, Loop and Scan as Python's own, over functions that hold their bodies."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.rules import rules, torch_dtype
from dlbridge.source.arrays.control import body_of, empty_outputs
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, Raw, call, code
from dlbridge.source.tree.expr import Attr, Val


@rules("If")
def if_(op: Op) -> Code:
    yes, no = (op.function(f"{name}_branch") for name in ("then", "else"))
    return code("{} if {} else {}", call(yes.name, *yes.captured), op[0], call(no.name, *no.captured))


@rules("Loop")
def loop(op: Op) -> Code:
    body = op.function("body", as_tuple=True)
    states = len(op.node.inputs) - 2
    limit = None if not op.has(0) else op.operand(0)
    keywords: dict[str, Any] = {"condition": op[1]} if op.has(1) else {}
    given = [op[i + 2] for i in range(states)]
    device = next((Attr(Val(x), "device") for x in given if isinstance(x, ir.Value)), None)
    outputs = [
        call("torch.empty", sizes, dtype=torch_dtype(op, dtype), device=device) for sizes, dtype in empty_outputs(op)
    ]
    if outputs:
        keywords["empty"] = outputs
    result = call("loop", body_of(body), Raw("None") if limit is None else limit, given, **keywords)
    return result if len(op.node.outputs) > 1 else code("{}[0]", result)
