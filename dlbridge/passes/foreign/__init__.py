"""``read_foreign``: ops of other domains (``com.microsoft``, ``ai.onnx.ml``) become ops of the standard.

onnxruntime's optimizer writes ``FusedMatMul`` and ``SkipLayerNormalization``, its quantiser ``MatMulNBits``,
converters of scikit-learn ``TreeEnsembleClassifier``. Each has a rule; what an op means is what onnxruntime computes.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from dlbridge.errors import UnsupportedOpError
from dlbridge.ops import strings
from dlbridge.ops.keys import op_key
from dlbridge.ops.traits import IR_OPSET
from dlbridge.passes import shapes
from dlbridge.passes.foreign import attention, learned, microsoft, quantized, trees  # noqa: F401  (they register their rules)
from dlbridge.passes.foreign.site import RULES, CannotReadError, Foreign, Results
from dlbridge.passes.integers import Integers
from dlbridge.passes.matching import is_read
from dlbridge.passes.rewriter import Rewriter
from dlbridge.passes.upgrade import upgrade

__all__ = ["has_rule", "read_foreign"]


def has_rule(node: ir.Node, opset: int) -> bool:
    """Whether a node is of another domain (or an op that onnxruntime adds to the standard's) and has a rule here."""
    if op_key(node) not in RULES or strings.looks_up(node):
        return False
    return not onnx.defs.has(op_key(node), max_inclusive_version=opset)


def read_foreign(model: ir.Model) -> bool:
    """Replace the ops of other domains by ops of the standard, in place; whether there were any.

    Raises:
        UnsupportedOpError: When the standard's ops cannot express one; all such nodes are listed.
    """
    graph = model.graph
    opset = graph.opset_imports.get("", IR_OPSET)
    if any(strings.looks_up(node) for node in graph.all_nodes()):
        graph.opset_imports[strings.ML] = strings.ML_OPSET  # what such nodes mean has not changed since
    found = {node for node in graph.all_nodes() if has_rule(node, opset)}
    if not found:
        return False
    for node in found:
        node.name = node.name or next((v.name for v in node.outputs if v.name), None) or op_key(node)
    upgrade(model)
    rewriter, troubles = Rewriter(graph), list[str]()

    def change(node: ir.Node, known: Integers) -> list[ir.Node]:
        if node not in found:
            return [node]
        try:
            results = _results(RULES[op_key(node)](Foreign(node, rewriter)), node)
        except CannotReadError as error:
            troubles.append(f"{node.name} ({op_key(node)}): {error}")
            return []
        rewriter.replace_node(node, results)
        return [maker for value in results if value is not None and (maker := value.producer()) is not None]

    shapes.walk(graph, change)
    if troubles:
        raise UnsupportedOpError(
            "these nodes cannot be said in the standard's ops:\n" + "\n".join(f"  {t}" for t in troubles),
            where=graph.name,
        )
    left = {node.domain for node in graph.all_nodes()}
    for domain in {key.rpartition("::")[0] for key in RULES} - {"", *left}:
        graph.opset_imports.pop(domain, None)
    return True


def _results(results: Results, node: ir.Node) -> list[ir.Value | None]:
    """A value for each output of a node.

    Raises:
        CannotReadError: When something reads an output that the rule does not give.
    """
    given = [results] if isinstance(results, ir.Value) else list(results)
    given += [None] * (len(node.outputs) - len(given))
    for index, (output, value) in enumerate(zip(node.outputs, given, strict=False)):
        if value is None and is_read(output):
            raise CannotReadError(f"its output {index} is read")
    return given
