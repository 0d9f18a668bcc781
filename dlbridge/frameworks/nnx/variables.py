"""Reads the array of an ``nnx.Variable`` where the variable itself will not do.

A variable computes (``x + self.bias``) and is taken by the functions of ``jnp``. It has no order, however:
``self.mask > 0`` is a TypeError. Functions of ``jax``, of ``nnx`` and of the file itself may take none.
"""

from __future__ import annotations

from dlbridge.source.blocks import is_weight
from dlbridge.source.tree.expr import BinOp, Call, Const, Expr, Index, Items, Keyword, Star, Val, dotted

#: Operators that a variable on the left does not have, or has as Python's own.
_ORDER = frozenset({"<", "<=", ">", ">=", "!="})


def as_arrays(code: Expr) -> Expr:
    """An expression with ``self.scale[...]`` for a weight ``self.scale`` where an array is needed.

    A weight alone is returned, or handed on to what is: ``nnx.jit`` returns no variables of the model.
    """
    return _array(_within(code))


def _within(code: Expr) -> Expr:
    if isinstance(code, BinOp) and code.symbol in _ORDER:
        return BinOp(_array(_within(code.left)), code.symbol, _within(code.right))
    children = tuple(_within(child) for child in code.children())
    if isinstance(code, Call) and not _takes_variables(code.function):
        function, *arguments = children
        children = (function, *(_argument(a) for a in arguments))
    return code.with_children(children) if children else code


def _takes_variables(function: Expr) -> bool:
    return (dotted(function) or "").startswith("jnp.")


def _argument(given: Expr) -> Expr:
    """An argument of a call with arrays for its weights: the argument itself, items of a list, or what is unpacked."""
    if isinstance(given, (Keyword, Star)):
        return given.with_children((_argument(given.value),))
    if isinstance(given, Items):
        return given.with_children(tuple(_argument(item) for item in given.items))
    return _array(given)


def _array(read: Expr) -> Expr:
    is_variable = isinstance(read, Val) and is_weight(read.value)
    return Index(read, Const(...)) if is_variable else read
