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
    if name == "Mul":
        negative = size.args[0] == -1
        return ("-" if negative else "") + "*".join(_factor(a, symbol) for a in size.args[negative:])
    if name == "Pow" and size.args[1].is_Integer and 0 < int(size.args[1]) < 5:
        return "*".join([_factor(size.args[0], symbol)] * int(size.args[1]))
    if name in _DIVISIONS:
        return f"{_factor(size.args[0], symbol)} {_DIVISIONS[name]} {_factor(size.args[1], symbol)}"
    parts = [words(part, symbol) for part in size.args]
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


def _factor(size: Any, symbol: Callable[[sympy.Symbol], str]) -> str:
    """A size as a part of a product or a division: in brackets, unless it is one word or one call."""
    text = words(size, symbol)
    is_whole = size.is_Symbol or (size.is_Integer and size >= 0) or type(size).__name__ in ("Max", "Min")
    return text if is_whole and not (size.is_Symbol and not text.isidentifier()) else f"({text})"
