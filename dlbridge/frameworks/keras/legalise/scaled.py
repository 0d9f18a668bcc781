"""Products that Keras takes for sparse tensors while layers are joined.

``keras.ops.multiply`` says of a number or an array that it is sparse, and so of the product with a symbolic tensor.
When layers run, all is dense. But a ``Layer`` subclass is traced once for the shape of its output, with a sparse
tensor where it is called on such a product, and most layers take none.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping

import onnx_ir as ir

from dlbridge.frameworks.keras import helpers
from dlbridge.source.op import Emit
from dlbridge.source.printing import definitions_of
from dlbridge.source.tree.code import Code
from dlbridge.source.tree.expr import BinOp, Call, dotted


def taken_for_sparse(emits: Mapping[ir.Node, Emit], symbolic: Collection[ir.Value]) -> set[ir.Value]:
    """The values that Keras takes for sparse tensors.

    Args:
        emits: The code of the nodes that are joined, in the order in which they run.
        symbolic: The values that are symbolic tensors there.
    """
    found = set[ir.Value]()
    for node, emit in emits.items():
        if emit.layer is None and emit.module is None:  # what a layer returns is dense
            is_sparse = not found.isdisjoint(emit.code.values()) or _multiplies(emit.code, symbolic)
            found.update(node.outputs if is_sparse else ())
    return found


def _multiplies(code: Code, symbolic: Collection[ir.Value]) -> bool:
    """Whether code, or a helper that it calls, multiplies a symbolic tensor by something else."""
    for part in code.walk():
        factors: tuple[Code, ...] = ()
        if isinstance(part, BinOp) and part.symbol == "*":
            factors = (part.left, part.right)
        elif isinstance(part, Call) and dotted(part.function) == "ops.multiply":
            factors = part.arguments
        reads = [any(value in symbolic for value in factor.values()) for factor in factors]
        if any(reads) and not all(reads):
            return True
    return any(_helper_multiplies(name) for name in code.names())


def _helper_multiplies(name: str) -> bool:
    nodes = (node for text in definitions_of(helpers, name) for node in ast.walk(ast.parse(text)))
    return any(isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) for node in nodes)
