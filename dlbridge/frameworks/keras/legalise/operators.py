"""Operators whose left side is an array of the backend, where layers are joined: they become functions of ``ops``.

A functional model is joined of symbolic tensors. What follows from none of its inputs or ``Weight`` layers is an array
of TensorFlow, JAX or PyTorch there, whose operators know nothing of symbolic tensors: ``ops.add(array, x)`` for
``array + x``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import onnx_ir as ir

from dlbridge.source.op import Emit
from dlbridge.source.tree.code import Code, call
from dlbridge.source.tree.expr import BinOp, is_size

_FUNCTIONS = {
    "+": "ops.add",
    "-": "ops.subtract",
    "*": "ops.multiply",
    "/": "ops.divide",
    "<": "ops.less",
    "<=": "ops.less_equal",
    ">": "ops.greater",
    ">=": "ops.greater_equal",
}


def call_functions(
    emits: Mapping[ir.Node, Emit], inputs: Collection[ir.Value], is_printed: Callable[[ir.Value], bool]
) -> tuple[set[ir.Value], set[ir.Value]]:
    """Let the code of nodes call functions where an operator would not do, in place.

    Args:
        emits: The code of each node, in the order in which it runs.
        inputs: The model's inputs.
        is_printed: Whether a weight that no layer holds is printed as an array; others are ``Weight`` layers.

    Returns:
        The values that follow from an input; those that follow from an input or a ``Weight`` layer.
    """
    following, symbolic = set(inputs), set(inputs)
    for node, emit in emits.items():
        symbolic.update(v for v in emit.code.values() if v.is_initializer() and not is_printed(v))
        emit.code = _with_functions(_with_functions(emit.code, following), symbolic)
        for values in (following, symbolic):
            if _reads(emit.code, values):
                values.update(node.outputs)
    return following, symbolic


def _with_functions(code: Code, symbolic: set[ir.Value]) -> Code:
    def change(part: Code) -> Code | None:
        if not isinstance(part, BinOp) or part.symbol not in _FUNCTIONS:
            return None
        is_mixed = _is_array(part.left, symbolic) and _reads(part.right, symbolic) and not is_size(part.right)
        return call(_FUNCTIONS[part.symbol], part.left, part.right.map(change)) if is_mixed else None

    return code.map(change)


def _is_array(code: Code, symbolic: set[ir.Value]) -> bool:
    """Whether code makes an array of the backend even where layers are joined."""
    makes = any(True for _ in code.values()) or any(name.startswith("ops.") for name in code.called())
    return makes and not _reads(code, symbolic) and not is_size(code)


def _reads(code: Code, symbolic: set[ir.Value]) -> bool:
    return any(value in symbolic for value in code.values())
