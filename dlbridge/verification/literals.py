"""The numbers that stand in the form under test: a fault that shows for one size or one number alone often names it.

Code that is compared with a model is not to be trusted, so nothing is concluded from these numbers: they are tried as
sizes and as inputs, beside those that the model's own graph suggests.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dlbridge.model import Model
from dlbridge.passes.matching import constant
from dlbridge.verification.roles import Role
from dlbridge.verification.strategies import Strategy

#: Constants of a graph with more numbers are tables.
_MOST_NUMBERS = 8
#: Larger numbers are no sizes that a fault is likely to wait for, or no inputs.
_LARGEST_SIZE, _LARGEST = 600, 1e6
#: How far the neighbours of a number are from it, of floats and of integers.
_STEP, _WHOLE_STEP = 0.01, 1.0


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


def strategy(numbers: Iterable[float]) -> Strategy:
    """Fills inputs with numbers and their neighbours: every other row with one of them, the others with any."""
    known = np.asarray(sorted(numbers))

    def fill(role: Role, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
        is_number = role.is_float or (role.is_integer and not role.decides_sizes)
        if not known.size or not is_number or role.steps is not None:
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
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return  # it will be refused when it is executed
    for node in ast.walk(tree):
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            yield from (-number for number in _literal(node.operand))
        yield from _literal(node)


def _literal(node: ast.AST) -> Iterator[float]:
    """The number that an expression is; none where it is something else."""
    number = node.value if isinstance(node, ast.Constant) else None
    if isinstance(number, (int, float)) and not isinstance(number, bool) and abs(number) <= _LARGEST:
        yield float(number)
