"""What the small integer tensors of a graph hold: sizes, and what is computed of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.ops.keys import op_key
from dlbridge.passes.matching import Match, producer, static_shape
from dlbridge.passes.sizes import Size, product, shape_of

#: Integer tensors up to this many elements are followed.
_FOLLOWED = 64
#: Integer types that hold sizes; arithmetic in narrower ones wraps round.
_SIZES = (ir.DataType.INT32, ir.DataType.INT64)

#: An object array of :class:`Size`, with None for what is not known.
Entries = np.ndarray


class Integers:
    """What the small integer tensors of a graph hold, entry by entry, as far as it follows from the shapes."""

    def __init__(self) -> None:
        self.known: dict[ir.Value, Entries] = {}

    def get(self, value: ir.Value | None) -> Entries | None:
        """The entries, of the shape of the tensor; None of a value that is not followed."""
        if value is None:
            return None
        if value not in self.known and value.is_initializer() and value.const_value is not None:
            tensor = value.const_value
            if not value.is_graph_input() and tensor.dtype in _SIZES and tensor.size <= _FOLLOWED:
                self.known[value] = _objects(tensor.numpy())
        return self.known.get(value)

    def numbers(self, value: ir.Value | None) -> list[int] | None:
        """The entries, flat, when all are plain numbers."""
        entries = self.get(value)
        return None if entries is None else _plain(entries.reshape(-1))

    def visit(self, node: ir.Node) -> None:
        """Follow one node; its inputs must have been visited."""
        rule = _RULES.get(op_key(node))
        if rule is None or len(node.outputs) != 1:
            return
        result = rule(self, Match(node))
        if result is not None and result.size <= _FOLLOWED and _fits(result, node.outputs[0].dtype):
            self.known[node.outputs[0]] = result


def _plain(entries: Entries | Sequence[Size | None]) -> list[int] | None:
    """Entries that are all numbers, as those."""
    numbers = [entry.number for entry in entries if entry is not None]
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(entries) else None


def _fits(entries: Entries, dtype: ir.DataType | None) -> bool:
    """Whether no number among the entries is beyond the type, where it would wrap round."""
    if dtype is None or dtype not in _SIZES:
        return True
    limits = np.iinfo(dtype.numpy())
    numbers = [e.number for e in entries.flat if e is not None and e.number is not None]
    return all(limits.min <= n <= limits.max for n in numbers)


def _objects(array: np.ndarray) -> Entries:
    result = np.empty(array.shape, object)
    for index in np.ndindex(array.shape):
        result[index] = Size.of(int(array[index]))
    return result


def _one(entry: Size | None) -> Entries:
    """A tensor without axes."""
    result = np.empty((), object)
    result[()] = entry
    return result


def _each(function: Callable[..., Size | None], *arrays: Entries) -> Entries:
    """A function of sizes, entry by entry, broadcast; None where an entry is not known."""
    wide = np.broadcast_arrays(*arrays)
    result = np.empty(wide[0].shape, object)
    for index in np.ndindex(result.shape):
        entries = [a[index] for a in wide]
        result[index] = None if any(e is None for e in entries) else function(*entries)
    return result


def _is_integer(node: Match) -> bool:
    return node.output.dtype in _SIZES


# --- one op each ------------------------------------------------------------------------------------------------------

Rule = Callable[[Integers, Match], Entries | None]


def _shape(known: Integers, node: Match) -> Entries | None:
    sizes = shape_of(node.input(0))
    if sizes is None:
        return None
    sizes = sizes[node.integer("start") : node.attribute("end")]
    result = np.empty(len(sizes), object)
    result[:] = sizes
    return result


def _size(known: Integers, node: Match) -> Entries | None:
    sizes = shape_of(node.input(0))
    return _one(None if not sizes else product(sizes))


def _constant(known: Integers, node: Match) -> Entries | None:
    for name in ("value_int", "value_ints"):
        if node.has(name):
            return _objects(np.asarray(node.get(name)))
    tensor = node.get("value")
    if tensor is None or tensor.dtype not in _SIZES or tensor.size > _FOLLOWED:
        return None
    return _objects(tensor.numpy())


def _same(known: Integers, node: Match) -> Entries | None:
    return known.get(node.input(0)) if _is_integer(node) else None


def _reshaped(known: Integers, node: Match) -> Entries | None:
    """Reshape, Squeeze, Unsqueeze of one axis or none: the entries in order, in the inferred shape."""
    entries, shape = known.get(node.input(0)), static_shape(node.output)
    if entries is None or shape is None or prod(shape) != entries.size:
        return None
    return entries.reshape(tuple(shape))


def _concat(known: Integers, node: Match) -> Entries | None:
    parts = []
    for value in node.operands:
        part = known.get(value)
        if part is None:  # entries that are not known, when it is known how many
            shape = static_shape(value)
            if shape is None or len(shape) != 1 or shape[0] > _FOLLOWED or not _is_integer(node):
                return None
            part = np.full(shape[0], None, object)
        parts.append(part)
    return np.concatenate(parts, axis=node.integer("axis"))


def _gather(known: Integers, node: Match) -> Entries | None:
    entries, indices = known.get(node.input(0)), known.get(node.input(1))
    numbers = known.numbers(node.input(1))
    if entries is None or indices is None or numbers is None or entries.ndim == 0:
        return None
    axis = node.integer("axis")
    places = np.asarray(numbers, int).reshape(indices.shape)
    if (places >= entries.shape[axis]).any() or (places < -entries.shape[axis]).any():
        return None
    taken = np.take(entries, places, axis=axis)
    return taken if isinstance(taken, np.ndarray) else _one(taken)


def _slice(known: Integers, node: Match) -> Entries | None:
    entries = known.get(node.input(0))
    given = [known.numbers(value) for value in node.node.inputs[1:]]
    numbers = [g for g in given if g is not None]
    if entries is None or entries.ndim != 1 or len(numbers) < len(given):
        return None
    start, step = numbers[0][0], numbers[3][0] if len(numbers) > 3 else 1
    end: int | None = numbers[1][0]
    if step < 0 and numbers[1][0] < -len(entries):
        end = None
    return entries[start:end:step]


def _binary(function: Callable[[Size, Size], Size | None]) -> Rule:
    def rule(known: Integers, node: Match) -> Entries | None:
        if len(node.node.inputs) != 2:  # Max, Min and Sum take any number
            return None
        a, b = known.get(node.input(0)), known.get(node.input(1))
        if a is None or b is None or not _is_integer(node):
            return None
        return _each(function, a, b)

    return rule


def _unary(function: Callable[[Size], Size | None]) -> Rule:
    def rule(known: Integers, node: Match) -> Entries | None:
        entries = known.get(node.input(0))
        return None if entries is None or not _is_integer(node) else _each(function, entries)

    return rule


def _quotient(a: Size, b: Size) -> Size | None:
    if a.positive and b.positive:
        return a // b
    return a.over(b) if b.terms else None


def _divided(known: Integers, node: Match) -> Entries | None:
    """A quotient; of ``n - n % b`` it is n divided by b and rounded down, whatever its sign."""
    a, b = node.input(0), known.get(node.input(1))
    rest = producer(a, "Sub")
    remainder = producer(rest.operand(1), "Mod", fmod=0) if rest is not None else None
    if rest is None or remainder is None or remainder.input(0) is not rest.input(0) or b is None:
        return _binary(_quotient)(known, node)
    whole, by = known.get(rest.input(0)), known.get(remainder.input(1))
    if whole is None or by is None or not _is_integer(node) or not np.array_equal(by, b):
        return None
    return _each(lambda x, y: x // y if y.positive else None, whole, b)


def _remainder(a: Size, b: Size) -> Size | None:
    if a.number is not None and b.number:
        return Size.of(a.number % b.number)
    return Size.of(0) if b.terms and a.over(b) is not None else None


def _extreme(pick: Callable[[int, int], int]) -> Callable[[Size, Size], Size | None]:
    def function(a: Size, b: Size) -> Size | None:
        if a == b:
            return a
        if a.number is not None and b.number is not None:
            return Size.of(pick(a.number, b.number))
        difference = a - b
        if difference.positive:
            return a if pick(1, 0) == 1 else b
        if (-difference).positive:
            return b if pick(1, 0) == 1 else a
        return None

    return function


def _compare(a: Size, b: Size) -> Size | None:
    """1 where equal, 0 where never equal."""
    difference = a - b
    if not difference.terms:
        return Size.of(1)
    never = difference.number is not None or difference.positive or (-difference).positive
    return Size.of(0) if never else None


def _equal(known: Integers, node: Match) -> Entries | None:
    a, b = known.get(node.input(0)), known.get(node.input(1))
    return None if a is None or b is None else _each(_compare, a, b)


def _where(known: Integers, node: Match) -> Entries | None:
    condition, a, b = (known.get(value) for value in node.node.inputs)
    if condition is None or a is None or b is None:
        return None
    conditions, a, b = np.broadcast_arrays(condition, a, b)
    result = np.empty(conditions.shape, object)
    for index in np.ndindex(result.shape):
        asked: Any = conditions[index]
        choice = None if asked is None else asked.number
        if choice is not None:
            result[index] = a[index] if choice else b[index]
    return result


def _product(known: Integers, node: Match) -> Entries | None:
    entries, axes = known.get(node.input(0)), known.numbers(node.input(1))
    if entries is None or entries.ndim != 1 or (node.input(1) is not None and axes not in ([0], [-1])):
        return None
    total = product(entries)
    return np.array([total], object) if node.integer("keepdims") else _one(total)


def _fill(known: Integers, node: Match) -> Entries | None:
    shape, tensor = known.numbers(node.input(0)), node.attribute("value")
    if shape is None or prod(shape) > _FOLLOWED or tensor is None or tensor.dtype not in _SIZES:
        return None
    return _objects(np.full(shape, tensor.numpy().reshape(-1)[0]))


def _range(known: Integers, node: Match) -> Entries | None:
    ends = [known.numbers(value) for value in node.node.inputs]
    given = [numbers[0] for numbers in ends if numbers is not None]
    if len(given) < 3 or not _is_integer(node):
        return None
    start, limit, step = given
    numbers = range(start, limit, step) if step else range(0)
    return _objects(np.array(numbers, dtype=object)) if len(numbers[: _FOLLOWED + 1]) <= _FOLLOWED else None


_RULES: dict[str, Rule] = {
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
    "Div": _divided,
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
