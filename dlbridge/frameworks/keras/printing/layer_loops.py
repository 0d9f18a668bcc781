"""Statements that make the same layers under numbered names become a loop over the numbers."""

from __future__ import annotations

from dlbridge.source.condense.loops import Loop, roll
from dlbridge.source.names import Names
from dlbridge.source.tree.code import expression
from dlbridge.source.tree.expr import Const, Expr, FString, Keyword, Var
from dlbridge.source.tree.statements import Statement, words

#: How many layers of numbered names are made in a loop.
MIN_ROUNDS = 3
_DIGITS = "0123456789"


def layer_loops(statements: list[Statement]) -> list[Statement]:
    """The statements with loops."""
    index = Names(*words(statements)).fresh("i")

    def loop(parts: list[Expr]) -> Loop | None:
        before, text, number = _numbered(parts[0])
        first = int(number)
        wanted = (f"{text}{first + i}" for i in range(len(parts)))
        count = next((i for i, (part, name) in enumerate(zip(parts, wanted, strict=True)) if _last(part) != name), None)
        if count is None:
            count = len(parts)
        if count < MIN_ROUNDS:
            return None
        bounds = f"{first}, {first + count}" if first else f"{count}"
        name = FString((*before, *([Const(text)] if text else []), Var(index)))
        return Loop(index, expression(f"range({bounds})"), name, count)

    return roll(statements, _names, loop)


def _names(value: Expr) -> list[Expr]:
    """The names of layers in an expression that end in a number."""
    names = [n.value for n in value.walk() if isinstance(n, Keyword) and n.name == "name"]
    return [name for name in names if _last(name)[-1:] in tuple(_DIGITS)]


def _last(name: Expr) -> str:
    """What a name ends with, behind the name of the block."""
    end = name.parts[-1] if isinstance(name, FString) else name
    return end.value if isinstance(end, Const) and isinstance(end.value, str) else ""


def _numbered(name: Expr) -> tuple[tuple[Expr, ...], str, str]:
    """(what stands before it, the text, the number) of a name that ends in a number."""
    before = name.parts[:-1] if isinstance(name, FString) else ()
    text = _last(name).rstrip(_DIGITS)
    return before, text, _last(name)[len(text) :]
