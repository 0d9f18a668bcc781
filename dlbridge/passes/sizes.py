"""Sizes: arithmetic on the sizes of axes, with names for those that are not known, and what integers in a graph hold.

A :class:`Size` is a polynomial with integer coefficients in names: ``2*batch``, ``seq + 1``. What is no polynomial
(``(seq + 1)//2``) is a name of its own, so that two sizes are equal only when they are equal for every input.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from math import prod

import numpy as np
import onnx_ir as ir

from dlbridge.ops.keys import op_key

#: Integer tensors up to this many elements are followed.
_FOLLOWED = 64
#: Integer types that hold sizes; arithmetic in narrower ones wraps round.
_SIZES = (ir.DataType.INT32, ir.DataType.INT64)


class Size:
    """An integer polynomial in named sizes; immutable."""

    __slots__ = ("terms",)

    def __init__(self, terms: dict[tuple[str, ...], int]) -> None:
        self.terms = {names: c for names, c in terms.items() if c}

    @classmethod
    def of(cls, size: int | str | ir.SymbolicDim | Size | None) -> Size | None:
        """A size from a number, or from a name as ONNX writes it; None of what is not known."""
        if isinstance(size, Size) or size is None:
            return size
        if isinstance(size, ir.SymbolicDim):
            return cls.of(size.value)
        if isinstance(size, (int, np.integer)):
            return cls({(): int(size)})
        try:
            return _parse(ast.parse(size, mode="eval").body)
        except (SyntaxError, ValueError):
            return cls({(size,): 1})

    @property
    def number(self) -> int | None:
        """The size, when it does not depend on names."""
        if not self.terms:
            return 0
        return self.terms[()] if list(self.terms) == [()] else None

    @property
    def positive(self) -> bool:
        """Whether it is above zero for all names above zero."""
        return bool(self.terms) and all(c > 0 for c in self.terms.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __add__(self, other: Size) -> Size:
        names = {**self.terms, **other.terms}
        return Size({n: self.terms.get(n, 0) + other.terms.get(n, 0) for n in names})

    def __neg__(self) -> Size:
        return Size({n: -c for n, c in self.terms.items()})

    def __sub__(self, other: Size) -> Size:
        return self + -other

    def __mul__(self, other: Size) -> Size:
        terms: dict[tuple[str, ...], int] = {}
        for a, c in self.terms.items():
            for b, d in other.terms.items():
                names = tuple(sorted(a + b))
                terms[names] = terms.get(names, 0) + c * d
        return Size(terms)

    def __floordiv__(self, other: Size) -> Size:
        exact = self.over(other)
        if exact is not None:
            return exact
        if self.number is not None and other.number:
            return Size.of(self.number // other.number)
        return Size({(f"({self._factor()}//{other._factor()})",): 1})

    def over(self, other: Size) -> Size | None:
        """The quotient where the division by one term leaves no rest, else None."""
        if len(other.terms) != 1:
            return Size.of(1) if self == other and self.terms else None
        ((names, c),) = other.terms.items()
        terms = {}
        for own, d in self.terms.items():
            rest = list(own)
            for name in names:
                if name not in rest:
                    return None
                rest.remove(name)
            if d % c:
                return None
            terms[tuple(rest)] = d // c
        return Size(terms)

    def __str__(self) -> str:
        text = ""
        for names, c in sorted(self.terms.items(), key=lambda term: (-len(term[0]), term[0])):
            term = "*".join(([str(abs(c))] if abs(c) != 1 or not names else []) + list(names))
            sign = ("-" if c < 0 else "") if not text else (" - " if c < 0 else " + ")
            text += sign + term
        return text or "0"

    __repr__ = __str__

    def _factor(self) -> str:
        text = str(self)
        return text if text.isidentifier() or text.isdigit() else f"({text})"

    def dim(self) -> int | str:
        """As a dim of ``ir.Shape``."""
        return self.number if self.number is not None else str(self)


def _parse(tree: ast.expr) -> Size:
    match tree:
        case ast.Constant(value=int(number)):
            return Size({(): number})
        case ast.Name(id=name):
            return Size({(name,): 1})
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_parse(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _parse(left) + _parse(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _parse(left) - _parse(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _parse(left) * _parse(right)
        case ast.BinOp(left=left, op=ast.FloorDiv(), right=right):
            return _parse(left) // _parse(right)
    raise ValueError("not arithmetic")


def shape_of(value: ir.Value | None) -> list[Size | None] | None:
    """The sizes of a value's axes."""
    return None if value is None or value.shape is None else [Size.of(size) for size in value.shape]


def product(sizes: Iterable[Size | None]) -> Size | None:
    total = Size.of(1)
    for size in sizes:
        if size is None:
            return None
        total = total * size
    return total


class Integers:
    """What the small integer tensors of a graph hold, entry by entry, as far as it follows from the shapes.

    ``known[value]`` is an object array of :class:`Size` (None where not known), of the shape of the tensor.
    """

    def __init__(self) -> None:
        self.known: dict[ir.Value, np.ndarray] = {}

    def get(self, value: ir.Value | None) -> np.ndarray | None:
        if value is None:
            return None
        if value not in self.known and value.is_initializer() and value.const_value is not None:
            tensor = value.const_value
            if not value.is_graph_input() and tensor.dtype in _SIZES and tensor.size <= _FOLLOWED:
                self.known[value] = _objects(tensor.numpy())
        return self.known.get(value)

    def numbers(self, value: ir.Value | None) -> list[int] | None:
        """The entries, flat, when all are plain numbers."""
        found = self.get(value)
        entries = [None if e is None else e.number for e in found.reshape(-1)] if found is not None else [None]
        return None if None in entries else entries  # type: ignore[return-value]

    def visit(self, node: ir.Node) -> None:
        """Follow one node; its inputs must have been visited."""
        rule = _VALUES.get(op_key(node))
        if rule is None or len(node.outputs) != 1:
            return
        result = rule(self, node)
        if result is not None and result.size <= _FOLLOWED and _fits(result, node.outputs[0].dtype):
            self.known[node.outputs[0]] = result


def _fits(entries: np.ndarray, dtype: ir.DataType | None) -> bool:
    """Whether no number among the entries is beyond the type, where it would wrap round."""
    if dtype not in _SIZES:
        return True
    limits = np.iinfo(dtype.numpy())
    numbers = [e.number for e in entries.flat if e is not None and e.number is not None]
    return all(limits.min <= n <= limits.max for n in numbers)


def _objects(array: np.ndarray) -> np.ndarray:
    result = np.empty(array.shape, object)
    for index in np.ndindex(array.shape):
        result[index] = Size.of(int(array[index]))
    return result


def _each(function, *arrays: np.ndarray) -> np.ndarray:
    """A function of sizes, entry by entry, broadcast; None where an entry is not known."""
    arrays = np.broadcast_arrays(*arrays)
    result = np.empty(arrays[0].shape, object)
    for index in np.ndindex(result.shape):
        entries = [a[index] for a in arrays]
        result[index] = None if any(e is None for e in entries) else function(*entries)
    return result


def _attribute(node: ir.Node, name: str, default=None):
    return node.attributes[name].value if name in node.attributes else default


def _is_integer(node: ir.Node) -> bool:
    return node.outputs[0].dtype in _SIZES


def _shape(known: Integers, node: ir.Node) -> np.ndarray | None:
    sizes = shape_of(node.inputs[0])
    if sizes is None:
        return None
    sizes = sizes[_attribute(node, "start", 0) : _attribute(node, "end")]
    result = np.empty(len(sizes), object)
    result[:] = sizes
    return result


def _size(known: Integers, node: ir.Node) -> np.ndarray | None:
    total = product(shape_of(node.inputs[0]) or [None])
    result = np.empty((), object)
    result[()] = total
    return result


def _constant(known: Integers, node: ir.Node) -> np.ndarray | None:
    for name in ("value_int", "value_ints"):
        if name in node.attributes:
            return _objects(np.asarray(node.attributes[name].value))
    tensor = node.attributes["value"].value if "value" in node.attributes else None
    if tensor is None or tensor.dtype not in _SIZES or tensor.size > _FOLLOWED:
        return None
    return _objects(tensor.numpy())


def _same(known: Integers, node: ir.Node) -> np.ndarray | None:
    return known.get(node.inputs[0]) if _is_integer(node) else None


def _reshaped(known: Integers, node: ir.Node) -> np.ndarray | None:
    """Reshape, Squeeze, Unsqueeze of one axis or none: the entries in order, in the inferred shape."""
    entries, shape = known.get(node.inputs[0]), node.outputs[0].shape
    if entries is None or shape is None or any(not isinstance(size, int) for size in shape):
        return None
    return entries.reshape(tuple(shape)) if prod(shape) == entries.size else None


def _concat(known: Integers, node: ir.Node) -> np.ndarray | None:
    parts = [known.get(v) for v in node.inputs]
    for index, (part, value) in enumerate(zip(parts, node.inputs, strict=True)):
        if part is None:  # entries that are not known, when it is known how many
            length = value.shape[0] if value.shape is not None and len(value.shape) == 1 else None
            if not isinstance(length, int) or length > _FOLLOWED or not _is_integer(node):
                return None
            parts[index] = np.full(length, None, object)
    return np.concatenate(parts, axis=_attribute(node, "axis"))


def _gather(known: Integers, node: ir.Node) -> np.ndarray | None:
    entries, indices = known.get(node.inputs[0]), known.get(node.inputs[1])
    if (
        entries is None
        or indices is None
        or entries.ndim == 0
        or any(i is None or i.number is None for i in indices.flat)
    ):
        return None
    numbers = np.asarray([i.number for i in indices.flat], int).reshape(indices.shape)
    axis = _attribute(node, "axis", 0)
    if (numbers >= entries.shape[axis]).any() or (numbers < -entries.shape[axis]).any():
        return None
    taken = np.take(entries, numbers, axis=axis)
    if not isinstance(taken, np.ndarray):
        result = np.empty((), object)
        result[()] = taken
        return result
    return taken


def _slice(known: Integers, node: ir.Node) -> np.ndarray | None:
    entries = known.get(node.inputs[0])
    given = [known.numbers(v) if v is not None else None for v in node.inputs[1:]]
    if entries is None or entries.ndim != 1 or any(g is None for g in given):
        return None
    start, end, step = given[0][0], given[1][0], given[3][0] if len(given) > 3 else 1
    length = len(entries)
    if step < 0 and end < -length:
        end = None
    return entries[start:end:step]


def _binary(function):
    def rule(known: Integers, node: ir.Node) -> np.ndarray | None:
        if len(node.inputs) != 2:  # Max, Min and Sum take any number
            return None
        a, b = known.get(node.inputs[0]), known.get(node.inputs[1])
        return None if a is None or b is None or not _is_integer(node) else _each(function, a, b)

    return rule


def _quotient(a: Size, b: Size) -> Size | None:
    return a // b if a.positive and b.positive else a.over(b) if b.terms else None


def _remainder(a: Size, b: Size) -> Size | None:
    if a.number is not None and b.number:
        return Size.of(a.number % b.number)
    return Size.of(0) if b.terms and a.over(b) is not None else None


def _extreme(pick):
    def function(a: Size, b: Size) -> Size | None:
        if a == b:
            return a
        if a.number is not None and b.number is not None:
            return Size.of(pick(a.number, b.number))
        difference = a - b
        if difference.positive or (-difference).positive:
            return a if difference.positive == (pick is max) else b
        return None

    return function


def _compare(a: Size, b: Size) -> Size | None:
    """1 where equal, 0 where never equal."""
    difference = a - b
    if not difference.terms:
        return Size.of(1)
    return Size.of(0) if difference.number is not None or difference.positive or (-difference).positive else None


def _equal(known: Integers, node: ir.Node) -> np.ndarray | None:
    a, b = known.get(node.inputs[0]), known.get(node.inputs[1])
    return None if a is None or b is None else _each(_compare, a, b)


def _where(known: Integers, node: ir.Node) -> np.ndarray | None:
    condition, a, b = (known.get(v) for v in node.inputs)
    if condition is None or a is None or b is None:
        return None
    condition, a, b = np.broadcast_arrays(condition, a, b)
    result = np.empty(condition.shape, object)
    for index in np.ndindex(result.shape):
        choice = condition[index].number if condition[index] is not None else None
        result[index] = None if choice is None else (a if choice else b)[index]
    return result


def _product(known: Integers, node: ir.Node) -> np.ndarray | None:
    entries = known.get(node.inputs[0])
    axes = known.numbers(node.inputs[1]) if len(node.inputs) > 1 else None
    if entries is None or entries.ndim != 1 or (axes not in (None, [0], [-1])):
        return None
    result = np.empty([1] if _attribute(node, "keepdims", 1) else [], object)
    result[...] = product(entries)
    return result


def _fill(known: Integers, node: ir.Node) -> np.ndarray | None:
    shape, tensor = known.numbers(node.inputs[0]), _attribute(node, "value")
    if shape is None or prod(shape) > _FOLLOWED or tensor is None or tensor.dtype not in _SIZES:
        return None
    return _objects(np.full(shape, tensor.numpy().reshape(-1)[0]))


def _range(known: Integers, node: ir.Node) -> np.ndarray | None:
    given = [known.numbers(v) for v in node.inputs]
    if any(g is None for g in given) or not _is_integer(node):
        return None
    start, limit, step = (g[0] for g in given)
    numbers = range(start, limit, step) if step else ()
    return _objects(np.array(numbers, dtype=object)) if len(numbers[: _FOLLOWED + 1]) <= _FOLLOWED else None


def _unary(function):
    def rule(known: Integers, node: ir.Node) -> np.ndarray | None:
        entries = known.get(node.inputs[0])
        return None if entries is None or not _is_integer(node) else _each(function, entries)

    return rule


_VALUES = {
    "Shape": _shape,
    "Size": _size,
    "Constant": _constant,
    "Identity": _same,
    "Cast": _same,
    "Reshape": _reshaped,
    "Squeeze": _reshaped,
    "Unsqueeze": _reshaped,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Add": _binary(Size.__add__),
    "Sub": _binary(Size.__sub__),
    "Mul": _binary(Size.__mul__),
    "Div": _binary(_quotient),
    "Mod": _binary(_remainder),
    "Max": _binary(_extreme(max)),
    "Min": _binary(_extreme(min)),
    "Neg": _unary(Size.__neg__),
    "Equal": _equal,
    "Where": _where,
    "ReduceProd": _product,
    "ConstantOfShape": _fill,
    "Range": _range,
}
