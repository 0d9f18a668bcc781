"""The ``dlbridge`` domain: layers that ONNX has no word for, each an ONNX function in standard ops.

The body of a function is the layer's meaning at inference. Weights are in PyTorch's order:

``Linear(X, W, B?)``
    ``Y = X @ W.T + B`` on the last axis. X ``(..., in)``, W ``(out, in)``, B ``(out,)``.
``Embedding(indices, W)``
    ``Y = W[indices]``. W ``(count, size)``. ``padding_idx`` (int, optional): the row that gets no gradient.

A function has a fixed number of inputs, so each op that has an optional input has an *overload* for each count:
``""`` for all inputs, ``"no_bias"`` without the last.
"""

from __future__ import annotations

import functools

import onnx_ir as ir

from dlbridge.ops.traits import IR_OPSET

DOMAIN = "dlbridge"
#: Version of the domain that models import.
DOMAIN_VERSION = 1

_BODIES = {
    ("Linear", ""): """Linear (X, W, B) => (Y) {
        transposed = Transpose (W)
        product = MatMul (X, transposed)
        Y = Add (product, B)
    }""",
    ("Linear", "no_bias"): """Linear (X, W) => (Y) {
        transposed = Transpose (W)
        Y = MatMul (X, transposed)
    }""",
    ("Embedding", ""): """Embedding <padding_idx: int = -1> (indices, W) => (Y) {
        Y = Gather <axis = 0> (W, indices)
    }""",
}

#: Op types of the domain.
EXTENSION_OPS = tuple(sorted({op for op, _ in _BODIES}))


@functools.cache
def _function_proto(op_type: str, overload: str):
    import onnx.parser

    body = _BODIES[op_type, overload]
    proto = onnx.parser.parse_function(f'<domain: "{DOMAIN}", opset_import: ["": {IR_OPSET}]> {body}')
    proto.overload = overload
    return proto


def function(op_type: str, overload: str = "") -> ir.Function:
    """A fresh copy of the function that gives an extension op its meaning.

    Raises:
        KeyError: When there is no such op.
    """
    return ir.from_proto(_function_proto(op_type, overload))


def overload(op_type: str, inputs: int) -> str:
    """The overload of an extension op that takes this many inputs."""
    return "no_bias" if op_type == "Linear" and inputs == 2 else ""


def attach_functions(model: ir.Model) -> None:
    """Make a model self-contained: give it the functions that its extension nodes call, and the domain's import."""
    used = [n for n in model.graph.all_nodes() if n.domain == DOMAIN]
    for node in used:
        while node.inputs and node.inputs[-1] is None:
            node.resize_inputs(len(node.inputs) - 1)
        node.overload = overload(node.op_type, len(node.inputs))
        if node.op_identifier() not in model.functions:
            model.functions[node.op_identifier()] = function(node.op_type, node.overload)
    if used:
        model.graph.opset_imports[DOMAIN] = DOMAIN_VERSION
