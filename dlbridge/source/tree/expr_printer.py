"""Expressions as documents: brackets where precedence asks for them, literals and names escaped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlbridge.source.names import quoted
from dlbridge.source.tree.document import Bracket, Document, flat
from dlbridge.source.tree.expr import (
    Arguments,
    Attr,
    BinOp,
    Call,
    Comprehension,
    Const,
    Dict,
    Expr,
    Formatted,
    FString,
    IfElse,
    Index,
    Items,
    Keyword,
    Lambda,
    Lit,
    Name,
    Slice,
    Star,
    Unary,
    Val,
    Var,
)
from dlbridge.source.tree.literals import literal_text

_CLOSE = {"(": ")", "[": "]", "{": "}"}
_LOOSEST, _TERNARY, _NOT, _COMPARISON, _UNARY, _POWER, _CALL, _ATOM = 0, 1, 4, 5, 12, 13, 15, 16
#: How tightly operators bind.
_BINDS = {
    **dict.fromkeys(("or",), 2),
    **dict.fromkeys(("and",), 3),
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "is", "is not", "in", "not in"), _COMPARISON),
    "|": 6,
    "^": 7,
    "&": 8,
    **dict.fromkeys(("<<", ">>"), 9),
    **dict.fromkeys(("+", "-"), 10),
    **dict.fromkeys(("*", "/", "//", "%", "@"), 11),
    "**": _POWER,
}


def text_of(node: Expr) -> str:
    """An expression on one line."""
    return flat(document(node))


def document(node: Expr, least: int = _LOOSEST) -> Document:
    """An expression; in brackets where it binds less than ``least``."""
    made = _PRINTERS[type(node)](node)
    return made if _binds(node) >= least else (Bracket("(", (made,), ")"),)


def _binds(node: Expr) -> int:
    if isinstance(node, BinOp):
        return _BINDS[node.symbol]
    if isinstance(node, Unary):
        return _NOT if node.symbol == "not " else _UNARY
    if isinstance(node, (IfElse, Lambda)):
        return _TERNARY
    if isinstance(node, (Lit, Const)):
        return _binds_of(node.literal.value if isinstance(node, Lit) else node.value)
    return _ATOM


def _binds_of(value: Any) -> int:
    """How tightly a literal binds: a minus is an operator, and a dot behind a whole number is that of a fraction."""
    if value is None or isinstance(value, (bool, np.bool_, str, list, tuple, dict, np.ndarray)):
        return _ATOM
    text = literal_text(value)
    if text.startswith("-"):
        return _UNARY
    return _CALL if text.isdigit() else _ATOM


def _binary(node: BinOp) -> Document:
    binds = _BINDS[node.symbol]
    left, right = (binds, binds + 1)
    if node.symbol == "**":
        left, right = binds + 1, _UNARY
    if binds == _COMPARISON:
        left = binds + 1
    return (*document(node.left, left), f" {node.symbol} ", *document(node.right, right))


def _call(node: Call) -> Document:
    return (*document(node.function, _CALL), Bracket("(", tuple(map(document, node.arguments)), ")"))


def _index(node: Index) -> Document:
    items = node.index.items if isinstance(node.index, Items) and node.index.bracket == "(" else None
    if isinstance(node.index, (Const, Lit, Name, Var)):
        return (*document(node.value, _CALL), f"[{text_of(node.index)}]")
    inside = tuple(map(document, items)) if items else (document(node.index),)
    return (*document(node.value, _CALL), Bracket("[", inside, "]", comma=items is not None and len(items) == 1))


def _slice(node: Slice) -> Document:
    first, last = (() if part is None else document(part, _TERNARY + 1) for part in (node.first, node.last))
    step = () if node.step is None else (":", *document(node.step, _TERNARY + 1))
    return (*first, ":", *last, *step)


def _items(node: Items) -> Document:
    inside = tuple(map(document, node.items))
    numbers = all(_is_number(item) for item in node.items)
    return (Bracket(node.bracket, inside, _CLOSE[node.bracket], node.bracket == "(" and len(inside) == 1, numbers),)


def _is_number(node: Expr) -> bool:
    if not isinstance(node, (Lit, Const)):
        return False
    value = node.literal.value if isinstance(node, Lit) else node.value
    return isinstance(value, (int, float, np.number, np.bool_))


def _comprehension(node: Comprehension) -> Document:
    inside = (*document(node.element), f" for {node.variable} in ", *document(node.over, _TERNARY + 1))
    return (Bracket(node.bracket, (inside,), _CLOSE[node.bracket]),) if node.bracket else inside


def _fstring(node: FString) -> Document:
    return ('f"' + "".join(map(_in_string, node.parts)) + '"',)


def _in_string(part: Expr) -> str:
    if isinstance(part, Const) and isinstance(part.value, str):
        return quoted(part.value)[1:-1].replace("{", "{{").replace("}", "}}")
    spec = f":{part.spec}" if isinstance(part, Formatted) else ""
    # A colon outside of brackets, or a second brace, would be read in another way.
    text = flat(document(part.value if isinstance(part, Formatted) else part, _TERNARY + 1))
    return f"{{{' ' if text.startswith('{') else ''}{text}{spec}}}"


def _dict(node: Dict) -> Document:
    pairs = zip(node.keys, node.items, strict=True)
    return (Bracket("{", tuple(_pair(k, v) for k, v in pairs), "}"),)


def _pair(key: Expr, value: Expr) -> Document:
    is_star = isinstance(key, Name) and key.id == "**"
    return ("**", *document(value)) if is_star else (*document(key), ": ", *document(value))


def _keyword(node: Keyword) -> Document:
    return ("**" if node.name == "**" else f"{node.name}=", *document(node.value))


def literal(value: Any) -> Document:
    """A Python literal."""
    if isinstance(value, np.ndarray) and value.ndim:
        value = list(value)
    if isinstance(value, (list, tuple)):
        opening, closing = ("[", "]") if isinstance(value, list) else ("(", ")")
        numbers = all(isinstance(v, (int, float, np.number, np.bool_)) for v in value)
        return (Bracket(opening, tuple(map(literal, value)), closing, isinstance(value, tuple), numbers),)
    if isinstance(value, dict):
        return (Bracket("{", tuple((*literal(k), ": ", *literal(v)) for k, v in value.items()), "}"),)
    if isinstance(value, Expr):
        return document(value)
    return (literal_text(value),)


def _unnamed(node: Val) -> Document:
    return (str(node.value.name),)


def _of_literal(node: Lit) -> Document:
    return literal(node.literal.value)


_PRINTERS: dict[type, Callable[[Any], Document]] = {
    Name: lambda n: (n.id,),
    Var: lambda n: (n.id,),
    Val: _unnamed,
    Lit: _of_literal,
    Const: lambda n: ("...",) if n.value is ... else literal(n.value),
    Attr: lambda n: (*document(n.value, _ATOM), f".{n.name}"),
    Call: _call,
    Keyword: _keyword,
    Star: lambda n: ("*", *document(n.value, 6)),
    BinOp: _binary,
    Unary: lambda n: (n.symbol, *document(n.operand, _NOT if n.symbol == "not " else _UNARY)),
    IfElse: lambda n: (
        *document(n.value, _TERNARY + 1),
        " if ",
        *document(n.test, _TERNARY + 1),
        " else ",
        *document(n.otherwise, _TERNARY),
    ),
    Lambda: lambda n: (f"lambda {n.parameters}: " if n.parameters else "lambda: ", *document(n.body)),
    Index: _index,
    Slice: _slice,
    Items: _items,
    Arguments: lambda n: tuple(p for i, a in enumerate(n.items) for p in ((", ",) if i else ()) + document(a)),
    Dict: _dict,
    Comprehension: _comprehension,
    FString: _fstring,
}
