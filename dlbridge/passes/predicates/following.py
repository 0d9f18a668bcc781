"""``Predicates``: finds the term of each value of a graph, by a rule for each op."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from dlbridge.ops.keys import op_key
from dlbridge.passes.integers import Integers
from dlbridge.passes.matching import Match, constant
from dlbridge.passes.predicates.terms import (
    FALSE,
    ONE,
    TRUE,
    Affine,
    Predicate,
    Read,
    Term,
    index,
    moved,
    number,
)
from dlbridge.passes.sizes import Size, shape_of

#: Integer types in which positions do not wrap round.
INTEGERS = (ir.DataType.INT32, ir.DataType.INT64)
#: Constant tables up to this many elements are compared with a formula.
LARGEST_TABLE = 1 << 16
#: Numbers beyond this might wrap round in int32.
LARGEST = 1 << 30


#: Op -> the term of its output, by those of its inputs; None where there is none.
Rule = Callable[["Predicates", Match], "Term | None"]
RULES: dict[str, Rule] = {}


def term_of(*op_types: str) -> Callable[[Rule], Rule]:
    """Register the rule of ops."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(op_types, rule))
        return rule

    return register


class Predicates:
    """The terms of the values of a graph. Its nodes are visited in order."""

    def __init__(self) -> None:
        self.sizes = Integers()
        self._terms: dict[ir.Value, Term] = {}

    def visit(self, node: ir.Node) -> None:
        """Follow one node; its inputs must have been visited."""
        self.sizes.visit(node)
        rule = RULES.get(op_key(node))
        value = node.outputs[0] if node.outputs else None
        if rule is None or value is None or not _is_followed(value):
            return
        term = rule(self, Match(node))
        if term is not None and _is_small(term):
            self._terms[value] = _without_ones(term, value)

    def get(self, value: ir.Value | None) -> Term | None:
        """What each element of a value is; None of what is no integer or boolean, or of no known rank."""
        if value is None or not _is_followed(value):
            return None
        if value not in self._terms:
            self._terms[value] = _without_ones(self._found(value), value)
        return self._terms[value]

    def _found(self, value: ir.Value) -> Term:
        entries = self.sizes.get(value)
        if entries is not None and entries.size == 1 and entries.reshape(-1)[0] is not None:
            return number(entries.reshape(-1)[0])
        tensor = constant(value)
        table = None if tensor is None or tensor.size > LARGEST_TABLE else _of_table(tensor.numpy())
        if table is not None:
            return table
        rank = len(value.shape or ())
        return Read(value, tuple(index(rank - 1 - axis) for axis in range(rank)))

    def affine(self, value: ir.Value | None) -> Affine | None:
        term = self.get(value)
        return term if isinstance(term, Affine) else None

    def predicate(self, value: ir.Value | None) -> Predicate | None:
        """The term of a boolean."""
        term = self.get(value)
        return None if term is None or isinstance(term, Affine) or type_of(value) != ir.DataType.BOOL else term


def _is_small(term: Term) -> bool:
    """Whether the numbers of a sum do not wrap round, even where the sizes are large."""
    if not isinstance(term, Affine):
        return True
    return all(abs(n) <= LARGEST for n in (*(s for _, s in term.slopes), *term.offset.terms.values()))


def _is_followed(value: ir.Value) -> bool:
    return value.shape is not None and value.dtype in (*INTEGERS, ir.DataType.BOOL)


def type_of(value: ir.Value | None) -> ir.DataType | None:
    return None if value is None else value.dtype


def _without_ones(term: Term, value: ir.Value) -> Term:
    """The term without the indices of axes of size 1, which are 0."""
    sizes = shape_of(value) or []
    ones = {axis for axis, size in enumerate(reversed(sizes)) if size == ONE}
    return moved(term, lambda axis: number(0) if axis in ones else index(axis)) if ones else term


def _of_table(array: np.ndarray) -> Term | None:
    """A constant table that is a formula in its indices; None of any other."""
    if not array.size:
        return None
    if array.dtype == bool:
        if array.all() or not array.any():
            return TRUE if array.all() else FALSE
        return None
    slopes = {}
    for axis in range(array.ndim):
        if array.shape[axis] > 1:
            first = [0] * array.ndim
            second = [1 if each == axis else 0 for each in range(array.ndim)]
            slopes[array.ndim - 1 - axis] = int(array[tuple(second)]) - int(array[tuple(first)])
    start = int(array.reshape(-1)[0])
    if max([abs(start), *map(abs, slopes.values())]) > LARGEST:
        return None
    planes = np.indices(array.shape, dtype=np.int64)
    wanted = sum((s * planes[array.ndim - 1 - axis] for axis, s in slopes.items()), np.full(array.shape, start))
    return Affine.of(slopes, Size.of(start)) if np.array_equal(wanted, array) else None


# --- for the rules ----------------------------------------------------------------------------------------------------


def fits(operand: ir.Value, result: ir.Value) -> bool:
    """Whether an operand is broadcast to a result along no axis but those of size 1."""
    given, wanted = shape_of(operand), shape_of(result)
    if given is None or wanted is None:
        return False
    pairs = zip(reversed(given), reversed(wanted), strict=False)
    return all(size is not None and size in (ONE, whole) for size, whole in pairs)


def operands(known: Predicates, node: Match, slots: Sequence[int] | None = None) -> list[Term] | None:
    """The terms of operands that are broadcast."""
    values = [node.operand(slot) for slot in slots] if slots is not None else node.operands
    terms = [known.get(value) for value in values]
    found = [term for term in terms if term is not None]
    fit = all(fits(value, node.output) for value in values)
    return found if fit and len(found) == len(values) else None
