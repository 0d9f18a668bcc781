"""Parameters of blocks: ``$name`` and ``$(2 * name)`` in a description."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Mapping
from typing import Any

from dlbridge.errors import DescriptionError, suggest


def fill(data: Any, parameters: Mapping[str, Any]) -> Any:
    """Replace ``$name`` and ``$(2 * name)`` by the values of parameters."""
    if isinstance(data, dict):
        return {key: fill(value, parameters) for key, value in data.items()}
    if isinstance(data, list):
        return [fill(value, parameters) for value in data]
    if isinstance(data, str) and data.startswith("$"):
        return _evaluate(data[1:], parameters)
    return data


_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}


def _evaluate(text: str, parameters: Mapping[str, Any]) -> Any:
    def visit(node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            if node.id not in parameters:
                raise DescriptionError(
                    f"'${text}': no parameter is called '{node.id}'", hint=suggest(node.id, parameters)
                )
            return parameters[node.id]
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -visit(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](visit(node.left), visit(node.right))
        raise ValueError

    try:
        result = visit(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError):
        raise DescriptionError(
            f"'${text}' cannot be computed", hint="numbers, parameters, + - * / // % and parentheses: $(2 * width)"
        ) from None
    if isinstance(result, float) and not math.isfinite(result):
        raise DescriptionError(f"'${text}' is not a finite number")
    return result
