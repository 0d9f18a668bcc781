"""Code as a tree: expressions of printed code, which are asked what they read instead of searched as text.

The nodes are those of Python's own syntax trees, as far as printed code has them, and some that Python has not: ``Val``
(a value of the graph, whose variable is named late), ``Lit`` (a literal that becomes a parameter where blocks differ in
it), ``LayerHere`` (the layer that a node's code calls) and ``Arguments`` (what is put between commas).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, dataclass_transform

import onnx_ir as ir


@dataclass(frozen=True)
class Literal:
    """A Python literal. Where blocks differ only in a literal, it becomes their parameter, named by ``hint``.

    One with a ``keyword`` is the value of a keyword argument that is not printed where it is the default.
    """

    value: Any
    hint: str = "value"
    keyword: str | None = None
    default: Any = None


@dataclass_transform(frozen_default=True, eq_default=False)
class Expr:
    """An expression. Subclasses are frozen dataclasses without saying so, equal only to themselves."""

    #: The fields that hold parts of the expression: one, one that may be left out, or a tuple of them, which is last.
    _held: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        kinds = ("Expr", "Expr | None", "tuple[Expr, ...]")
        cls._held = tuple(name for name, kind in inspect.get_annotations(cls).items() if kind in kinds)
        dataclass(frozen=True, eq=False)(cls)

    def children(self) -> tuple[Expr, ...]:
        """Its parts, in the order in which they are printed."""
        found: list[Expr] = []
        for name in self._held:
            part = getattr(self, name)
            if isinstance(part, tuple):
                found += part
            elif part is not None:
                found.append(part)
        return tuple(found)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        """The same with other parts; a tuple of them may become longer or shorter."""
        given = iter(children)
        changed: dict[str, Any] = {}
        for name in self._held:
            part = getattr(self, name)
            if isinstance(part, tuple):
                changed[name] = tuple(given)
            elif part is not None:
                changed[name] = next(given)
        return replace(self, **changed) if changed else self  # type: ignore[type-var]

    def walk(self) -> Iterator[Expr]:
        """It and all that is in it, in the order in which they are printed."""
        pending: list[Expr] = [self]
        while pending:
            node = pending.pop()
            yield node
            pending += reversed(node.children())

    def map(self, change: Callable[[Expr], Expr | None]) -> Expr:
        """The expression with nodes exchanged; ``change`` gives None for those that stay, whose parts are tried."""
        changed = change(self)
        if changed is not None:
            return changed
        children = self.children()
        new = tuple(child.map(change) for child in children)
        return self if all(a is b for a, b in zip(new, children, strict=True)) else self.with_children(new)

    def values(self) -> Iterator[ir.Value]:
        """The values that it reads, in order."""
        return (leaf.value for leaf in self._leaves if isinstance(leaf, Val))

    def literals(self) -> Iterator[Literal]:
        """The literals that may become parameters, in order."""
        return (leaf.literal for leaf in self._leaves if isinstance(leaf, Lit))

    @functools.cached_property
    def _leaves(self) -> tuple[Val | Lit, ...]:
        """The values and literals in it, found once: they are asked for again and again."""
        return tuple(node for node in self.walk() if isinstance(node, (Val, Lit)))

    def names(self) -> set[str]:
        """The names of functions and modules that it reads; variables are none."""
        return {node.id for node in self.walk() if isinstance(node, Name)}

    def variables(self) -> set[str]:
        """The names of variables that it reads."""
        return {node.id for node in self.walk() if isinstance(node, Var)}

    def called(self) -> set[str]:
        """The dotted names of what it calls: ``ops.reshape``."""
        found = (dotted(node.function) for node in self.walk() if isinstance(node, Call))
        return {name for name in found if name is not None}

    def substituted(self, values: Callable[[ir.Value], Expr | ir.Value | None]) -> Expr:
        """The expression with values exchanged; None keeps one."""

        def change(node: Expr) -> Expr | None:
            if not isinstance(node, Val):
                return None
            new = values(node.value)
            return Val(new) if isinstance(new, ir.Value) else new

        return self.map(change)

    def key(self, value: Callable[[ir.Value], Any] = id, literal: Callable[[Literal], Any] = repr) -> tuple:
        """A key that is equal for expressions that print the same, up to what is given for values and literals."""
        if isinstance(self, Val):
            return ("Val", value(self.value))
        if isinstance(self, Lit):
            return ("Lit", literal(self.literal))
        if isinstance(self, Const):
            return ("Const", repr(self.value))
        own = tuple(v for v in vars(self).values() if isinstance(v, (str, bool, int, float)) or v is None)
        return (type(self).__name__, own, *(child.key(value, literal) for child in self.children()))


class Name(Expr):
    """A name that the file or Python gives: of a module, a function, a class."""

    id: str


class Var(Expr):
    """A variable or parameter of the body that the expression stands in."""

    id: str


class Val(Expr):
    """A value of the graph."""

    value: ir.Value


class Lit(Expr):
    """A literal that becomes a parameter where blocks differ in it."""

    literal: Literal


class Const(Expr):
    """A literal that stays: it is part of what the code says."""

    value: Any


class LayerHere(Expr):
    """The layer that the code of a node calls."""


class Attr(Expr):
    """``value.name``."""

    value: Expr
    name: str


class Call(Expr):
    """``function(argument, ...)``; keywords and stars are among the arguments."""

    function: Expr
    arguments: tuple[Expr, ...]

    def with_keyword(self, name: str, value: Expr) -> Call:
        """The call with one more keyword argument."""
        return Call(self.function, (*self.arguments, Keyword(name, value)))


class Keyword(Expr):
    """``name=value`` in a call."""

    name: str
    value: Expr


class Star(Expr):
    """``*value``."""

    value: Expr


class BinOp(Expr):
    """``left symbol right``: arithmetic, comparisons, ``and`` and ``or``."""

    left: Expr
    symbol: str
    right: Expr


class Unary(Expr):
    """``-operand``, ``~operand``, ``not operand``."""

    symbol: str
    operand: Expr


class IfElse(Expr):
    """``value if test else otherwise``."""

    value: Expr
    test: Expr
    otherwise: Expr


class Lambda(Expr):
    """``lambda parameters: body``."""

    parameters: str
    body: Expr


class Index(Expr):
    """``value[index]``."""

    value: Expr
    index: Expr


class Slice(Expr):
    """``first:last:step`` in an index; what is None is left out."""

    first: Expr | None = None
    last: Expr | None = None
    step: Expr | None = None

    @property
    def is_all(self) -> bool:
        return self.first is None and self.last is None and self.step is None

    def key(self, value: Callable[[ir.Value], Any] = id, literal: Callable[[Literal], Any] = repr) -> tuple:
        given = tuple(part is None for part in (self.first, self.last, self.step))
        return (given, *super().key(value, literal))


class Items(Expr):
    """``(item, ...)`` or ``[item, ...]``, by the opening bracket."""

    bracket: str
    items: tuple[Expr, ...]


class Arguments(Expr):
    """``item, ...``: what is put between the brackets of a call, an index or a list."""

    items: tuple[Expr, ...]


class Dict(Expr):
    """``{key: value, ...}``; the key ``Name("**")`` stands for ``**value``."""

    keys: tuple[Expr, ...]
    items: tuple[Expr, ...]

    def children(self) -> tuple[Expr, ...]:
        return tuple(part for pair in zip(self.keys, self.items, strict=True) for part in pair)

    def with_children(self, children: tuple[Expr, ...]) -> Expr:
        return Dict(children[::2], children[1::2])


class Comprehension(Expr):
    """``[element for variable in over]``, or without brackets."""

    bracket: str
    element: Expr
    variable: str
    over: Expr


class FString(Expr):
    """A string with expressions in it: ``f"{name}-conv"``."""

    parts: tuple[Expr, ...]


class Formatted(Expr):
    """``{value:spec}`` in a string."""

    value: Expr
    spec: str


def dotted(node: Expr) -> str | None:
    """``torch.nn.functional`` of names and attributes; None of anything else."""
    if isinstance(node, Name):
        return node.id
    if not isinstance(node, Attr):
        return None
    before = dotted(node.value)
    return None if before is None else f"{before}.{node.name}"


def layer_inputs(node: Expr) -> list[ir.Value] | None:
    """The values that a node's layer is called with, where the call is all that its code does."""
    if not isinstance(node, Call) or not isinstance(node.function, LayerHere):
        return None
    values = [a.value for a in node.arguments if isinstance(a, Val)]
    return values if len(values) == len(node.arguments) else None


def is_size(node: Expr) -> bool:
    """Whether an expression is a Python int made of sizes, not a tensor: ``x.shape[0] * 2``."""
    if isinstance(node, (Lit, Const)):
        return True
    if isinstance(node, Index):
        return _shape(node.value)
    if isinstance(node, Call):
        known = (dotted(node.function) or "") in _OF_SIZES
        return known and bool(node.arguments) and all(is_size(part) for part in node.arguments)
    return isinstance(node, (BinOp, Unary)) and all(is_size(part) for part in node.children())


#: Functions that make a size of sizes.
_OF_SIZES = frozenset({"max", "min", "int", "larger_size", "smaller_size", "truncated_size"})


def _shape(node: Expr) -> bool:
    """Whether an expression is the shape of a tensor."""
    if isinstance(node, Call):
        return isinstance(node.function, Attr) and node.function.name == "shape"
    return isinstance(node, Attr) and node.name == "shape"


def leftmost(node: Expr) -> Expr:
    """What an expression begins with, as it is printed."""
    children = node.children()
    within = not children or isinstance(node, (Items, Dict, Comprehension, Lambda, Unary))
    return node if within else leftmost(children[0])
