"""Sizes of torch, which are sympy's, as text that ``dlbridge.constraints`` and ``passes.sizes`` read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy

_RELATIONS = {"Equality": "==", "Unequality": "!=", "LessThan": "<=", "GreaterThan": ">="}
_RELATIONS |= {"StrictLessThan": "<", "StrictGreaterThan": ">"}
_DIVISIONS = {"FloorDiv": "//", "CleanDiv": "//", "Mod": "%", "PythonMod": "%"}


def words(size: Any, symbol: Callable[[sympy.Symbol], str] = str) -> str:
    """A relation or a size as text.

    Args:
        size: What sympy has.
        symbol: What a symbol is called.

    Raises:
        ValueError: When it has no words for it.
    """
    name = type(size).__name__
    if isinstance(size, sympy.Symbol):
        return symbol(size)
    if size.is_Integer:
        return str(int(size))
    if name == "Add":
        return _sum(size, symbol)
    parts = [words(part, symbol) for part in size.args]
    if name == "Mul":
        negative = parts[0] == "-1"
        return ("-" if negative else "") + "*".join(_factor(p) for p in parts[negative:])
    if name == "Pow" and size.args[1].is_Integer and 0 < int(size.args[1]) < 5:
        return "*".join([_factor(parts[0])] * int(size.args[1]))
    if name in _DIVISIONS:
        return f"{_factor(parts[0])} {_DIVISIONS[name]} {_factor(parts[1])}"
    if name in ("Max", "Min"):
        return f"{name.lower()}({', '.join(parts)})"
    if name in _RELATIONS:
        return f"{parts[0]} {_RELATIONS[name]} {parts[1]}"
    if name in ("And", "Or"):
        return f" {name.lower()} ".join(f"({p})" for p in parts)
    if name == "Not":
        return f"not ({parts[0]})"
    raise ValueError(f"no words for {size}")


def _sum(size: Any, symbol: Callable[[sympy.Symbol], str]) -> str:
    """A sum as text: positive terms first, then negative ones, numbers last."""
    terms = sorted(size.args, key=lambda a: (a.could_extract_minus_sign(), a.is_Integer))
    text = ""
    for term in terms:
        taken = term.could_extract_minus_sign()
        word = words(-term if taken else term, symbol)
        if not text:
            sign = "-" if taken else ""
        elif taken:
            sign = " - "
        else:
            sign = " + "
        text += sign + word
    return text


def _factor(text: str) -> str:
    if text.isidentifier() or text.isdigit() or text.startswith(("max(", "min(")):
        return text
    return f"({text})"
