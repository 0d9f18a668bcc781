"""Parameters of blocks: ``$name`` and ``$(2 * name)`` in a description."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dlbridge.constraints import FORMULA, Expression
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


def _evaluate(text: str, parameters: Mapping[str, Any]) -> Any:
    try:
        result = Expression(text, FORMULA).value(parameters)
    except KeyError as missing:
        (name,) = missing.args
        raise DescriptionError(f"'${text}': no parameter is called '{name}'", hint=suggest(name, parameters)) from None
    except (ValueError, TypeError, ArithmeticError):
        raise DescriptionError(
            f"'${text}' cannot be computed", hint="numbers, parameters, + - * / // % and parentheses: $(2 * width)"
        ) from None
    if isinstance(result, float) and not math.isfinite(result):
        raise DescriptionError(f"'${text}' is not a finite number")
    return result
