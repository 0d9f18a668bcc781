"""How rules write code: ``call("F.celu", op.x, alpha=alpha)`` and templates, which make trees (``source.expr``)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from dlbridge.source.tree import expr, template
from dlbridge.source.tree.expr import Arguments, BinOp, Expr, Items, Keyword, Lit, Literal, Slice, Val
from dlbridge.source.tree.expr_printer import text_of
from dlbridge.source.tree.literals import literal_text, single
from dlbridge.source.tree.template import LAYER

Code = Expr


@dataclass(frozen=True)
class Default:
    """A keyword's value that is printed where it is not the default (in ``call``, behind a positional argument)."""

    value: Any
    default: Any


@dataclass(frozen=True)
class Raw:
    """Code that is always the same (``torch.float32``)."""

    text: str

    def __repr__(self) -> str:
        return self.text


#: Function or method -> what a literal is that it takes without a keyword.
_POSITIONAL = {
    **dict.fromkeys(("reshape", "unflatten", "expand", "broadcast_to", "view"), "size"),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "flatten", "squeeze", "unsqueeze", "sum", "mean"), "axis"),
    "pad": "padding",
    "layer_norm": "normalized_shape",
}


def code(text: str, *args: Any, **fields: Any) -> Code:
    """Fill a ``str.format`` template of an expression: its fields are values, other code, lists of these, or literals.

    ``code("F.pad({x}, {pad})", x=op.x, pad=[1, 2])``; a keyword field names its literal's hint. Brackets are printed
    where precedence asks for them, so a template needs none around its fields.
    """
    tree, names = template.read(text)
    found: list[Expr] = []
    position = 0
    for name in names:
        if name == "":
            name, position = str(position), position + 1
        found.append(node(args[int(name)]) if name.isdigit() else node(fields[name], name))
    return template.fill(tree, found.__getitem__)


def call(function: str | Code, *args: Any, **keywords: Any) -> Code:
    """``function(arg, ..., keyword=...)``; keywords that are None are left out."""
    called = function if isinstance(function, Expr) else template.parse(function)
    hint = _POSITIONAL.get(str(getattr(called, "name", getattr(called, "id", ""))), "value")
    made = expr.Call(called, _arguments(args, keywords, hint))
    return template.spliced(made, made.children())


def method(name: str, x: Any, *args: Any, **keywords: Any) -> Code:
    """``x.name(arg, ..., keyword=...)``; keywords that are None are left out."""
    return call(expr.Attr(node(x), name), *args, **keywords)


def arguments(*args: Any, **keywords: Any) -> Code:
    """What stands between the brackets of a call."""
    return Arguments(_arguments(args, keywords))


def _arguments(args: tuple[Any, ...], keywords: dict[str, Any], hint: str = "value") -> tuple[Expr, ...]:
    found = [node(argument, hint) for argument in args]
    for name, value in keywords.items():
        if isinstance(value, Default) and found:
            found.append(Keyword(name, Lit(Literal(value.value, name, name, value.default))))
        elif value is not None:
            found.append(Keyword(name, node(value, name)))
    return tuple(found)


def join(separator: str, items: list[Any]) -> Code:
    """Fragments with an operator between them, or commas: then they go among the arguments around them."""
    parts = [node(item) for item in items]
    if separator.strip() == ",":
        return Arguments(tuple(parts))
    return functools.reduce(lambda a, b: BinOp(a, separator.strip(), b), parts)


def cut(first: Any = None, last: Any = None, step: Any = None) -> Slice:
    """``first:last:step`` in an index."""
    return Slice(*(None if part is None else node(part) for part in (first, last, step)))


def node(argument: Any, hint: str = "value") -> Expr:
    """What a rule hands over, as a tree."""
    if isinstance(argument, Expr):
        return argument
    if isinstance(argument, Raw):
        return template.parse(argument.text)
    if isinstance(argument, ir.Value):
        return Val(argument)
    if isinstance(argument, Literal):
        return Lit(argument)
    if isinstance(argument, Default):
        return Lit(Literal(argument.value, hint))
    if isinstance(argument, (list, tuple)) and _has_code(argument):
        return Items("[" if isinstance(argument, list) else "(", tuple(node(a) for a in argument))
    return Lit(Literal(argument, hint))


def _has_code(items: list[Any] | tuple[Any, ...]) -> bool:
    return any(
        _has_code(item) if isinstance(item, (list, tuple)) else isinstance(item, (Expr, Raw, ir.Value, Literal))
        for item in items
    )


def expression(text: str) -> Code:
    """The tree of an expression of ours, given as text."""
    return template.parse(text)


__all__ = [
    "LAYER",
    "Code",
    "Default",
    "Literal",
    "Raw",
    "arguments",
    "call",
    "code",
    "cut",
    "expression",
    "join",
    "literal_text",
    "node",
    "single",
    "text_of",
]
