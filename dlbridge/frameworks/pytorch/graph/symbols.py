"""Symbolic sizes: on which axis of which tensor each is found, and nodes that compute arithmetic on them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import sympy

from dlbridge.frameworks.pytorch.fx.size_text import words
from dlbridge.frameworks.pytorch.fx.tensors import known_sizes, with_sizes

if TYPE_CHECKING:
    from dlbridge.frameworks.pytorch.graph.reading import Op


class Symbols:
    """The symbolic sizes of a program, and the values from which each can be computed."""

    def __init__(self) -> None:
        #: Dimensions that the user named: symbol -> name.
        self.names: dict[sympy.Symbol, str] = {}
        #: Size -> (value, axis) that has it: the first one for a symbol, the latest one for arithmetic on symbols.
        self._axes: dict[sympy.Expr, tuple[ir.Value, int]] = {}
        self._scaled: dict[sympy.Symbol, tuple[ir.Value, int, sympy.Expr]] = {}
        self._numbers: dict[sympy.Symbol, ir.Value] = {}
        #: (module, size) -> the axis of that size that was last read or made in the module's own code.
        self._near: dict[tuple[str, sympy.Expr], tuple[ir.Value, int]] = {}

    def copy(self) -> Symbols:
        """A copy to which further sizes can be added without changing this one."""
        new = Symbols()
        new.names = self.names
        new._axes, new._scaled = dict(self._axes), dict(self._scaled)
        new._numbers, new._near = dict(self._numbers), dict(self._near)
        return new

    def note_in_module(self, path: str, value: ir.Value) -> None:
        """Record that the code of the module at this path uses this tensor, so its sizes are at hand there."""
        for axis, size in reversed(list(enumerate(known_sizes(value) or ()))):
            if isinstance(size, sympy.Expr):
                self._near[path, size] = (value, axis)

    def note_given(self, path: str, value: ir.Value) -> None:
        """Record that the module at this path is given this tensor: of several of one size, the first has it."""
        for axis, size in enumerate(known_sizes(value) or ()):
            if isinstance(size, sympy.Expr):
                self._near.setdefault((path, size), (value, axis))

    def note_sizes(self, value: ir.Value, sizes: list[Any]) -> None:
        """Record which symbols are sizes of this tensor."""
        for axis, size in enumerate(sizes):
            if isinstance(size, sympy.Symbol):
                self._axes.setdefault(size, (value, axis))
            elif isinstance(size, sympy.Expr) and size.free_symbols:
                self._axes[size] = (value, axis)
                if len(size.free_symbols) == 1:
                    self._scaled.setdefault(next(iter(size.free_symbols)), (value, axis, size))

    def bind(self, symbol: sympy.Symbol, value: ir.Value) -> None:
        """Record that a symbol is the number in a tensor of one element."""
        self._numbers[symbol] = value

    def dim(self, size: Any) -> int | str | None:
        """A size as a dim of ``ir.Shape``: a number, or arithmetic on names as text; None if it has no such form."""
        if isinstance(size, int):
            return size
        if not isinstance(size, sympy.Expr) or not size.is_polynomial() or not size.free_symbols <= self.names.keys():
            return None
        try:
            return words(size, self.names.__getitem__)
        except ValueError:  # half of a size
            return None

    # --- as nodes ----------------------------------------------------------------------------------------------------

    def value(self, size: sympy.Expr, op: Op, *, vector: bool) -> ir.Value:
        """A size as a tensor of int64 (float32 if it is not an integer), of rank 0 or a vector of one element."""
        found = self._look_up(size, op)
        if found is None:
            found = self._compute(size, op)
        return found if vector else with_sizes(op("Squeeze", found, [0]), [])

    def truth(self, relation: sympy.Basic, op: Op) -> ir.Value:
        """Whether a relation between sizes holds, as a boolean of rank 0."""
        name = type(relation).__name__
        if name in ("And", "Or"):
            parts = [self.truth(part, op) for part in relation.args]
            return functools.reduce(lambda a, b: op(name, a, b), parts)
        if name == "Not":
            return op("Not", self.truth(relation.args[0], op))
        if name not in _RELATIONS:
            return op.refuse(f"the relation {relation} between sizes")
        sides = [self._number(part, op) for part in relation.args]
        made = op(_RELATIONS[name], *sides)
        return op("Not", made) if name == "Unequality" else made

    def _number(self, size: sympy.Basic, op: Op) -> ir.Value:
        return op.number(int(size) if getattr(size, "is_Integer", False) else size, ir.DataType.INT64)

    def _look_up(self, size: sympy.Expr, op: Op) -> ir.Value | None:
        """Read the size from an axis of the op's inputs, of a tensor in the module's code, or of an earlier tensor."""
        for value in op.tensors:
            axes = [axis for axis, s in enumerate(known_sizes(value) or ()) if s == size]
            if axes:
                return _shape(value, axes[0], op)
        found = self._near.get((op.path, size)) or self._axes.get(size)
        if found is not None:
            return _shape(*found, op)
        if size in self._numbers:
            return op("Reshape", op.cast(self._numbers[size], ir.DataType.INT64), [1])
        return None

    def _compute(self, size: sympy.Expr, op: Op) -> ir.Value:
        if size.is_Integer:
            return op.ints([int(size)])
        if size.is_number:
            return op.constant([float(size)], ir.DataType.FLOAT)
        if isinstance(size, sympy.Symbol):
            return self._solve(size, op)
        name = type(size).__name__
        if name == "Add" and size.is_integer:
            return self._sum(size.args, op)
        parts = [self.value(a, op, vector=True) for a in size.args]
        if name in _JOINED:
            return _fold(_JOINED[name], parts, op)
        if name == "Pow" and size.args[1].is_Integer and int(size.args[1]) > 0:
            return _fold("Mul", parts[:1] * int(size.args[1]), op)
        if name == "FloorDiv" and any(map(_may_be_negative, size.args)):
            return op("Div", op("Sub", parts[0], op("Mod", *parts)), parts[1])  # ONNX truncates what may be negative
        if name in ("FloorDiv", "CleanDiv", "PythonMod", "Mod"):
            return op("Mod" if "Mod" in name else "Div", *parts)
        if name in ("TrueDiv", "IntTrueDiv", "FloatTrueDiv"):
            return op("Div", *(op.cast(p, ir.DataType.FLOAT) for p in parts))
        if name in ("ToFloat",):
            return op.cast(parts[0], ir.DataType.FLOAT)
        if name in ("TruncToInt", "FloorToInt", "CeilToInt", "floor", "ceiling"):
            real = op.cast(parts[0], ir.DataType.FLOAT)
            rounded = real if name == "TruncToInt" else op("Ceil" if "eil" in name else "Floor", real)
            return op.cast(rounded, ir.DataType.INT64)
        return op.refuse(f"the size {size} cannot be computed from sizes that are known")

    def _sum(self, terms: Sequence[sympy.Expr], op: Op) -> ir.Value:
        """A sum of sizes, in which what is added stands before what is taken away."""
        first, *rest = sorted(terms, key=lambda term: term.could_extract_minus_sign())
        result = self.value(first, op, vector=True)
        for term in rest:
            is_taken = term.could_extract_minus_sign()
            part = self.value(-term if is_taken else term, op, vector=True)
            result = op("Sub" if is_taken else "Add", result, part)
        return result

    def _solve(self, symbol: sympy.Symbol, op: Op) -> ir.Value:
        """Solve for a symbol of which only ``a * symbol + b`` is the size of an axis."""
        if symbol not in self._scaled:
            return op.refuse(f"the size {symbol} is not known")
        value, axis, size = self._scaled[symbol]
        slope = size.coeff(symbol)
        rest = sympy.expand(size - slope * symbol)
        if not (slope.is_Integer and rest.is_Integer and slope):
            return op.refuse(f"the size {symbol} cannot be computed from {size}")
        whole = _shape(value, axis, op)
        if rest:
            whole = op("Sub", whole, [int(rest)])
        return op("Div", whole, [int(slope)])


_RELATIONS = {
    "Equality": "Equal",
    "Unequality": "Equal",
    "LessThan": "LessOrEqual",
    "GreaterThan": "GreaterOrEqual",
    "StrictLessThan": "Less",
    "StrictGreaterThan": "Greater",
}
_JOINED = {"Add": "Add", "Mul": "Mul", "Max": "Max", "Min": "Min"}


def _shape(value: ir.Value, axis: int, op: Op) -> ir.Value:
    return op("Shape", value, start=axis, end=axis + 1)


def _may_be_negative(size: sympy.Basic) -> bool:
    """Whether something is taken away in a size."""
    return any(number.is_negative for number in size.atoms(sympy.Number))


def _fold(op_type: str, parts: list[ir.Value], op: Op) -> ir.Value:
    real = any(p.dtype is not None and p.dtype.is_floating_point() for p in parts)
    if real:
        parts = [op.cast(p, ir.DataType.FLOAT) for p in parts]
    result = parts[0]
    for part in parts[1:]:
        result = op(op_type, result, part)
    return result
