"""Templates: an expression as Python text with fields, read into a tree once."""

from __future__ import annotations

import ast
import functools
import string
from collections.abc import Callable
from typing import Any

from dlbridge.source.tree import expr

#: What a template calls the layer of its node (``expr.LayerHere``).
LAYER = "__layer__"
_SYMBOLS: dict[type, str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.MatMult: "@",
    ast.Pow: "**",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.And: "and",
    ast.Or: "or",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.USub: "-",
    ast.UAdd: "+",
    ast.Invert: "~",
    ast.Not: "not ",
}


class _Field(expr.Name):
    """The place of a field, in a template that has been read."""


@functools.lru_cache(maxsize=8192)
def read(template: str) -> tuple[expr.Expr, tuple[str, ...]]:
    """The tree of a ``str.format`` template, with fields by the names that are given, in order."""
    text = ""
    fields: list[str] = []
    for before, field, _, _ in string.Formatter().parse(template):
        text += before
        if field is None:
            continue
        text += f"__field{len(fields)}__"
        fields.append(field)
    return _tree(text), tuple(fields)


@functools.lru_cache(maxsize=8192)
def parse(text: str) -> expr.Expr:
    """The tree of an expression without fields."""
    return _tree(text)


def fill(tree: expr.Expr, fields: Callable[[int], expr.Expr]) -> expr.Expr:
    """A template's tree with its fields filled in."""
    if isinstance(tree, _Field):
        return fields(int(tree.id[7:-2]))
    children = tree.children()
    new = tuple(fill(child, fields) for child in children)
    return tree if all(a is b for a, b in zip(new, children, strict=True)) else spliced(tree, new)


def spliced(node: expr.Expr, children: tuple[expr.Expr, ...]) -> expr.Expr:
    """A node with these parts; arguments that are joined by commas go among those around them."""
    if isinstance(node, (expr.Call, expr.Items)) and any(isinstance(child, expr.Arguments) for child in children):
        parts = (child.items if isinstance(child, expr.Arguments) else (child,) for child in children)
        children = tuple(part for several in parts for part in several)
    if isinstance(node, expr.Index) and isinstance(children[1], expr.Arguments):
        items = children[1].items
        return expr.Index(children[0], items[0] if len(items) == 1 else expr.Items("(", items))
    return node.with_children(children)


def expression_of(node: ast.expr) -> expr.Expr:
    """A node of Python's syntax tree as one of ours."""
    return _expression(node)


def _tree(text: str) -> expr.Expr:
    text = text.strip()
    try:
        body = ast.parse(text, mode="eval").body
    except SyntaxError:  # what stands in an index: ``:, 0``
        index: Any = ast.parse(f"_[{text}]", mode="eval").body
        body = index.slice
    if isinstance(body, ast.Tuple) and not text.startswith("("):
        return expr.Arguments(tuple(map(_expression, body.elts)))
    return _expression(body)


def _expression(node: ast.expr) -> expr.Expr:
    """A node of Python's syntax tree as one of ours."""
    made = _MAKERS.get(type(node))
    if made is None:
        raise ValueError(f"no code is written with {ast.unparse(node)!r}")
    return made(node)


def _name(node: ast.Name) -> expr.Expr:
    if node.id == LAYER:
        return expr.LayerHere()
    return _Field(node.id) if node.id.startswith("__field") else expr.Name(node.id)


def _call(node: ast.Call) -> expr.Expr:
    keywords = [expr.Keyword(k.arg or "**", _expression(k.value)) for k in node.keywords]
    return expr.Call(_expression(node.func), (*map(_expression, node.args), *keywords))


def _compare(node: ast.Compare) -> expr.Expr:
    if len(node.ops) != 1:
        raise ValueError(f"no code is written with {ast.unparse(node)!r}")
    return expr.BinOp(_expression(node.left), _SYMBOLS[type(node.ops[0])], _expression(node.comparators[0]))


def _bool(node: ast.BoolOp) -> expr.Expr:
    parts = list(map(_expression, node.values))
    return functools.reduce(lambda a, b: expr.BinOp(a, _SYMBOLS[type(node.op)], b), parts)


def _slice(node: ast.Slice) -> expr.Expr:
    return expr.Slice(*(None if part is None else _expression(part) for part in (node.lower, node.upper, node.step)))


def _comprehension(bracket: str) -> Callable[[Any], expr.Expr]:
    def make(node: ast.ListComp | ast.GeneratorExp) -> expr.Expr:
        (loop,) = node.generators
        if loop.ifs or not isinstance(loop.target, ast.Name):
            raise ValueError(f"no code is written with {ast.unparse(node)!r}")
        return expr.Comprehension(bracket, _expression(node.elt), loop.target.id, _expression(loop.iter))

    return make


def _fstring(node: ast.JoinedStr) -> expr.Expr:
    return expr.FString(tuple(map(_expression, node.values)))


def _formatted(node: ast.FormattedValue) -> expr.Expr:
    if node.format_spec is None:
        return _expression(node.value)
    (spec,) = node.format_spec.values  # type: ignore[attr-defined]
    return expr.Formatted(_expression(node.value), spec.value)


def _constant(node: ast.Constant) -> expr.Expr:
    if isinstance(node.value, str) and "__field" in node.value:
        raise ValueError("a template has no fields in strings")
    return expr.Const(node.value)


_MAKERS: dict[type, Callable[[Any], expr.Expr]] = {
    ast.Name: _name,
    ast.Constant: _constant,
    ast.Attribute: lambda n: expr.Attr(_expression(n.value), n.attr),
    ast.Call: _call,
    ast.Starred: lambda n: expr.Star(_expression(n.value)),
    ast.BinOp: lambda n: expr.BinOp(_expression(n.left), _SYMBOLS[type(n.op)], _expression(n.right)),
    ast.Compare: _compare,
    ast.BoolOp: _bool,
    ast.UnaryOp: lambda n: expr.Unary(_SYMBOLS[type(n.op)], _expression(n.operand)),
    ast.IfExp: lambda n: expr.IfElse(_expression(n.body), _expression(n.test), _expression(n.orelse)),
    ast.Lambda: lambda n: expr.Lambda(ast.unparse(n.args), _expression(n.body)),
    ast.Subscript: lambda n: expr.Index(_expression(n.value), _expression(n.slice)),
    ast.Slice: _slice,
    ast.Tuple: lambda n: expr.Items("(", tuple(map(_expression, n.elts))),
    ast.List: lambda n: expr.Items("[", tuple(map(_expression, n.elts))),
    ast.Dict: lambda n: expr.Dict(
        tuple(expr.Name("**") if k is None else _expression(k) for k in n.keys), tuple(map(_expression, n.values))
    ),
    ast.ListComp: _comprehension("["),
    ast.GeneratorExp: _comprehension(""),
    ast.JoinedStr: _fstring,
    ast.FormattedValue: _formatted,
}
