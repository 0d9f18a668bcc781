"""The numbers that stand in the form under test: a fault that shows for one size or one number alone often names it.

Code that is compared with a model is not to be trusted, so nothing is concluded from these numbers: they are tried as
sizes and as inputs, beside those that the model's own graph suggests.
"""

from __future__ import annotations

import ast
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dlbridge import constraints
from dlbridge.model import Model
from dlbridge.passes.matching import constant
from dlbridge.verification.inputs.roles import Role
from dlbridge.verification.inputs.strategies import Strategy

#: Constants of a graph with more numbers are tables.
_MOST_NUMBERS = 8
#: Larger numbers are no sizes that a fault is likely to wait for, or no inputs.
_LARGEST_SIZE, _LARGEST = 600, 1e6
#: Integers up to this are axes and counts, which all code has.
_USUAL = 4
#: What code computes of numbers before it begins (``2**12 - 3``), with numbers up to this and exponents up to that.
_FOLDED: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    **constraints.BINARY,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}
_LARGEST_OPERAND, _LARGEST_EXPONENT = 1e18, 60
#: How far the neighbours of a number are from it, of floats and of integers.
_STEP, _WHOLE_STEP = 0.01, 1.0
#: What an integer that is no index is taken modulo.
_NO_TABLE = 2**31


def numbers_of(forms: Iterable[Any]) -> frozenset[float]:
    """The numbers that stand in models' code or graphs.

    Args:
        forms: Each a ``Source``, the folder that one was saved to, or a ``Model``.
    """
    return frozenset(number for form in forms for number in _numbers(form) if abs(number) <= _LARGEST)


def sizes_of(numbers: Iterable[float]) -> list[int]:
    """The sizes among numbers, and the next larger ones: code may say up to where it goes."""
    whole = {int(number) for number in numbers if number == int(number) and 1 <= number <= _LARGEST_SIZE}
    return sorted(whole | {size + 1 for size in whole})


def foreign(numbers: Iterable[float], model: Model) -> list[float]:
    """The numbers that stand neither in a model's graph nor in all code: something else is done for them, perhaps."""
    own = {np.float32(number) for number in _of_model(model)}
    return sorted(n for n in numbers if np.float32(n) not in own and not (n == int(n) and abs(n) <= _USUAL))


def between(numbers: Iterable[float]) -> list[float]:
    """Numbers, and those halfway between two neighbours."""
    known = sorted(numbers)
    return sorted({*known, *((low + high) / 2 for low, high in itertools.pairwise(known))})


def everywhere(number: float) -> Strategy:
    """Fills inputs with one number alone, so that sums and means over rows are what they can be with it."""

    def fill(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
        if not _takes_numbers(role):
            return None
        return np.full(shape, number if role.is_float else math.trunc(number) % (role.rows or _NO_TABLE))

    return Strategy("one number of the code", fill)


def together(numbers: Iterable[float]) -> Strategy:
    """Fills inputs with numbers (and, of integers, small ones) so that each meets each other; every third row has one
    number and zeros."""
    known = np.asarray(between(numbers))

    def fill(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
        if not known.size or not _takes_numbers(role):
            return None
        whole = np.concatenate([np.trunc(known), np.arange(_USUAL + 1)])
        own = known if role.is_float else np.unique(np.mod(whole, role.rows or _NO_TABLE))
        found: np.ndarray = generator.choice(own, shape)
        if len(shape) > 1:
            found[::3] *= generator.permuted(np.indices(shape[1:])[-1] == 0, axis=-1)
        return found

    return Strategy("numbers of the code together", fill)


def strategy(numbers: Iterable[float]) -> Strategy:
    """Fills inputs with numbers and their neighbours: every other row with one of them, the others with any."""
    known = np.asarray(sorted(numbers))

    def fill(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
        if not known.size or not _takes_numbers(role):
            return None
        step = _STEP if role.is_float else _WHOLE_STEP
        around = np.concatenate([known, known - step, known + step])
        around = around if role.is_float else np.unique(np.trunc(around))
        if role.rows is not None and role.is_integer:
            around = np.unique(np.mod(around, role.rows))
        found: np.ndarray = generator.choice(around, shape)
        if shape:
            of_one = np.resize(generator.permutation(around), (len(found[::2]), *[1] * (len(shape) - 1)))
            found[::2] = of_one
        return found

    return Strategy("numbers of the code", fill)


def _takes_numbers(role: Role) -> bool:
    return role.steps is None and (role.is_float or (role.is_integer and not role.decides_sizes))


def _of_model(model: Model) -> Iterator[float]:
    """The numbers of a graph: its small constants and its sizes."""
    yield from _of_graph(model)
    for value in (*model.inputs, *model.graph.initializers.values(), *(v for n in model.graph for v in n.outputs)):
        yield from (float(size) for size in value.shape or () if isinstance(size, int))


def _numbers(form: Any) -> Iterator[float]:
    if isinstance(form, Model):
        return _of_graph(form)
    text = (form / "model.py").read_text(encoding="utf-8") if isinstance(form, Path) else getattr(form, "text", "")
    return _of_code(text)


def _of_graph(model: Model) -> Iterator[float]:
    for value in model.graph.initializers.values():
        tensor = constant(value)
        if tensor is None or tensor.size > _MOST_NUMBERS or value.dtype is None:
            continue
        if value.dtype.is_integer() or value.dtype.is_floating_point():
            numbers = tensor.numpy().astype(np.float64).reshape(-1)
            yield from (float(number) for number in numbers if np.isfinite(number))


def _of_code(text: str) -> Iterator[float]:
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError):
        return  # it will be refused when it is executed
    known: dict[ast.AST, float] = {}
    for node in reversed(nodes):  # what an expression is made of comes before it
        number = _number(node, known)
        if number is not None and abs(number) <= _LARGEST_OPERAND:
            known[node] = number
    yield from (float(number) for number in known.values())


def _number(node: ast.AST, known: dict[ast.AST, float]) -> float | None:
    """The number that an expression is, of those that its parts are; None where it is something else."""
    if isinstance(node, ast.Constant):
        is_number = isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
        return node.value if is_number else None  # type: ignore[return-value]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and node.operand in known:
        return -known[node.operand]
    if not isinstance(node, ast.BinOp) or type(node.op) not in _FOLDED:
        return None
    left, right = known.get(node.left), known.get(node.right)
    if left is None or right is None or (isinstance(node.op, (ast.Pow, ast.LShift)) and abs(right) > _LARGEST_EXPONENT):
        return None
    try:
        found = _FOLDED[type(node.op)](left, right)
    except (ArithmeticError, TypeError, ValueError):
        return None
    return found if isinstance(found, (int, float)) else None
