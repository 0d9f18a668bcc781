"""Statements of printed code, as a tree over expressions."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dlbridge.source.tree.document import INDENT, WIDTH, Bracket, Document, lines
from dlbridge.source.tree.expr import Expr, Items, Name, Var
from dlbridge.source.tree.expr_printer import document
from dlbridge.source.tree.template import expression_of


class Statement:
    """A statement, or a few lines of text that say what they read."""

    def expressions(self) -> Iterator[Expr]:
        """The expressions that it reads, not those of statements in it."""
        yield from ()

    def body(self) -> Sequence[Statement]:
        """The statements in it."""
        return ()

    def names(self) -> set[str]:
        """The names of functions and modules that it reads."""
        own = (expression.names() for expression in self.expressions())
        return set().union(*own, *(statement.names() for statement in self.body()))

    def called(self) -> set[str]:
        """The dotted names of what it calls."""
        own = (expression.called() for expression in self.expressions())
        return set().union(*own, *(statement.called() for statement in self.body()))

    def lines(self, indent: str = "") -> list[str]:
        """As printed."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Assign(Statement):
    """``target = value``."""

    target: Expr
    value: Expr

    def expressions(self) -> Iterator[Expr]:
        yield self.target
        yield self.value

    def lines(self, indent: str = "") -> list[str]:
        return lines((*_target(self.target), " = ", *document(self.value)), indent)


@dataclass(frozen=True, eq=False)
class Do(Statement):
    """An expression by itself."""

    value: Expr
    #: What stands before it.
    keyword: ClassVar[str] = ""

    def expressions(self) -> Iterator[Expr]:
        yield self.value

    def lines(self, indent: str = "") -> list[str]:
        return lines((self.keyword, *document(self.value)), indent)


class Return(Do):
    """``return value``."""

    keyword = "return "


class Raise(Do):
    """``raise value``."""

    keyword = "raise "


@dataclass(frozen=True, eq=False)
class For(Statement):
    """``for variable in over:``."""

    variable: str
    over: Expr
    inside: tuple[Statement, ...]

    def expressions(self) -> Iterator[Expr]:
        yield self.over

    def body(self) -> Sequence[Statement]:
        return self.inside

    def lines(self, indent: str = "") -> list[str]:
        head = lines((f"for {self.variable} in ", *document(self.over), ":"), indent)
        return [*head, *(line for s in self.inside for line in s.lines(indent + INDENT))]


@dataclass(frozen=True, eq=False)
class Def(Statement):
    """``def name(parameters):``; a parameter is its text, with its default."""

    name: str
    parameters: tuple[str, ...]
    inside: tuple[Statement, ...]

    def body(self) -> Sequence[Statement]:
        return self.inside

    def lines(self, indent: str = "") -> list[str]:
        head = (f"def {self.name}", Bracket("(", tuple((p,) for p in self.parameters), ")"), ":")
        return [*lines(head, indent), *(line for s in self.inside for line in s.lines(indent + INDENT))]


@dataclass(frozen=True, eq=False)
class Class(Statement):
    """``class name(base):``, with blank lines between what stands in it."""

    name: str
    base: Expr
    inside: tuple[Statement, ...]
    decorator: Expr | None = None

    def expressions(self) -> Iterator[Expr]:
        yield self.base
        if self.decorator is not None:
            yield self.decorator

    def body(self) -> Sequence[Statement]:
        return self.inside

    def lines(self, indent: str = "") -> list[str]:
        above = [] if self.decorator is None else lines(("@", *document(self.decorator)), indent)
        found = [*above, *lines((f"class {self.name}", Bracket("(", (document(self.base),), ")"), ":"), indent)]
        for index, statement in enumerate(self.inside):
            found += [""] if index else []
            found += statement.lines(indent + INDENT)
        return found


@dataclass(frozen=True, eq=False)
class Text(Statement):
    """Lines that are printed as they are: a docstring, a function that a template says."""

    text: tuple[str, ...]
    reads: frozenset[str] = frozenset()

    @classmethod
    def of(cls, text: Sequence[str]) -> Text:
        """Lines of our own; they read what a parser finds in them."""
        nodes = list(ast.walk(ast.parse("\n".join(text))))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        return cls(tuple(text), frozenset({node.id for node in names} - own))

    def names(self) -> set[str]:
        return set(self.reads)

    def lines(self, indent: str = "") -> list[str]:
        return [indent + line if line else line for line in self.text]


def variables(names: Sequence[str]) -> Expr:
    """``a, b``, or ``a``, as a target."""
    found = tuple(map(Var, names))
    return found[0] if len(found) == 1 else Items("(", found)


def words(statements: Sequence[Statement]) -> set[str]:
    """The names of variables, functions and modules in statements: what is behind a dot is none."""
    nodes = [node for s in statements for e in s.expressions() for node in e.walk()]
    return {node.id for node in nodes if isinstance(node, (Name, Var))}


def target(pattern: str, names: Sequence[str]) -> Expr:
    """A pattern that unpacks (``"{0}, ({1}, {2})"``), with names in it."""
    node = ast.parse(pattern.format(*names), mode="eval").body
    return expression_of(node).map(lambda n: Var(n.id) if isinstance(n, Name) else None)


def _target(node: Expr) -> Document:
    """What is assigned to; its outermost brackets are not printed."""
    if not isinstance(node, Items) or node.bracket != "(":
        return document(node)
    parts = tuple(part for i, item in enumerate(node.items) for part in ((", ",) if i else ()) + document(item))
    return (*parts, ",") if len(node.items) == 1 else parts


def fit(line: str) -> list[str]:
    """A line of a template, in several where it is too long."""
    if len(line) <= WIDTH:
        return [line]
    text = line.lstrip()
    if text.startswith("# "):
        mark = f"{line[: len(line) - len(text)]}# "
        printer = textwrap.TextWrapper(WIDTH, mark, mark, break_long_words=False, break_on_hyphens=False)
        return printer.wrap(text[2:])
    (node,) = ast.parse(f"{text} pass" if text.endswith(":") else text).body
    return _long(node, line[: len(line) - len(text)]) or [line]


def _long(node: ast.stmt, indent: str) -> list[str] | None:
    """The lines of a statement; None for one that is not broken."""
    match node:
        case ast.Assign(targets=[to]):
            return Assign(expression_of(to), expression_of(node.value)).lines(indent)
        case ast.Expr():
            return Do(expression_of(node.value)).lines(indent)
        case ast.Return(value=ast.expr() as value):
            return Return(expression_of(value)).lines(indent)
        case ast.FunctionDef():
            defaults = [""] * (len(node.args.args) - len(node.args.defaults))
            defaults += [f"={ast.unparse(default)}" for default in node.args.defaults]
            given = tuple(f"{a.arg}{d}" for a, d in zip(node.args.args, defaults, strict=True))
            return Def(node.name, given, ()).lines(indent)
    return None
