"""Shape arithmetic: integer values that are computed from shapes become Python ints in the printed code.

Exporters say ``x.reshape(b, -1)`` as a chain of Shape, Gather, Concat, ... nodes. Here each element of such a value is
followed back to a number or to an expression in dimensions, so that the chain itself is never printed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlbridge.ops.keys import is_op, op_key
from dlbridge.source.tree.code import Code, call, code
from dlbridge.source.tree.expr import BinOp, Call, Index, Lit, Unary, dotted

#: Values with more elements are data, not shapes.
MAX_ELEMENTS = 64
#: Functions of the printed code that give the largest of two sizes.
_LARGEST = ("max", "larger_size")
#: Integer types that hold sizes; arithmetic in narrower ones wraps round.
_SIZES = (ir.DataType.INT32, ir.DataType.INT64)

Element = int | Code


@dataclass(frozen=True)
class Elements:
    """The elements of an integer value of rank 0 or 1: numbers, or Python expressions of ints."""

    items: tuple[Element, ...]
    rank: int

    @property
    def is_static(self) -> bool:
        return all(isinstance(i, int) for i in self.items)

    @property
    def nested(self) -> Element | list[Element]:
        """As a tensor's constructor takes them: one element of a tensor without axes, else a list."""
        return list(self.items) if self.rank else self.items[0]


class Arithmetic:
    """Finds the elements of integer values.

    Args:
        dim: Gives the code of a dimension of a value that is known only when the model runs.
        largest, smallest: Functions of two such dimensions in the printed code.
    """

    def __init__(self, dim: Callable[[ir.Value, int], Code], *, largest: str = "max", smallest: str = "min") -> None:
        self._dim = dim
        self._rules = _RULES | {"Max": _variadic(_call(largest, max)), "Min": _variadic(_call(smallest, min))}
        self._known: dict[ir.Value, Elements | None] = {}

    def elements(self, value: ir.Value | None) -> Elements | None:
        """The elements of a value, or None when it is not shape arithmetic."""
        if value is None:
            return None
        if value not in self._known:
            self._known[value] = None  # a value in a loop is not arithmetic
            self._known[value] = self._find(value)
        return self._known[value]

    def is_computed(self, value: ir.Value) -> bool:
        """Whether a value is shape arithmetic that a node computes (a constant is not)."""
        return value.producer() is not None and self.elements(value) is not None

    def _find(self, value: ir.Value) -> Elements | None:
        if value.const_value is not None and value.producer() is None:
            return _constant(value)
        node = value.producer()
        if node is None or node.domain != "" or (len(node.outputs) != 1 and not is_op(node, "Split")):
            return None
        rule = self._rules.get(op_key(node))
        if rule is None:
            return None
        if is_op(node, "Shape", "Size"):
            return self._shape(node)
        inputs = [self.elements(v) for v in node.inputs]
        if not inputs or any(i is None for i, v in zip(inputs, node.inputs, strict=True) if v is not None):
            return None
        found = rule(node, *inputs)
        return found if found is not None and len(found.items) <= MAX_ELEMENTS else None

    def _shape(self, node: ir.Node) -> Elements | None:
        source = node.inputs[0]
        if source is None or source.shape is None:
            return None
        rank = len(source.shape)
        items = tuple(self.dim(source, axis) for axis in range(rank))
        if is_op(node, "Size"):
            return Elements((_product(items),), 0)
        start, end = _int(node, "start", 0), _int(node, "end", rank)
        return Elements(items[slice(start, end)], 1)

    def dim(self, value: ir.Value, axis: int) -> Element:
        """A dimension: a number when it is known, else the code that asks for it."""
        assert value.shape is not None
        size = value.shape[axis]
        return size if isinstance(size, int) else self._dim(value, axis)


def _constant(value: ir.Value) -> Elements | None:
    tensor = value.const_value
    if tensor is None or tensor.dtype not in _SIZES or len(tensor.shape) > 1 or tensor.size > MAX_ELEMENTS:
        return None
    return Elements(tuple(int(i) for i in np.atleast_1d(tensor.numpy())), len(tensor.shape))


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


# --- arithmetic on elements ----------------------------------------------------------------------------------------


def _binary(symbol: str, number: Callable[[int, int], int], neutral: int | None = None) -> Callable[..., Element]:
    def apply(a: Element, b: Element) -> Element:
        if isinstance(a, int) and isinstance(b, int):
            return number(a, b)
        if b == neutral and isinstance(b, int):
            return a
        if a == neutral and isinstance(a, int) and symbol in "+*":
            return b
        return code(f"{{}} {symbol} {{}}", a, b)

    return apply


def _call(function: str, number: Callable[[int, int], int]) -> Callable[..., Element]:
    def apply(a: Element, b: Element) -> Element:
        return number(a, b) if isinstance(a, int) and isinstance(b, int) else code(f"{function}({{}}, {{}})", a, b)

    return apply


def _truncated(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


_sum = _binary("+", lambda a, b: a + b, 0)
_difference = _binary("-", lambda a, b: a - b, 0)
_multiple = _binary("*", lambda a, b: a * b, 1)
_quotient = _binary("//", lambda a, b: _truncated(a, b) if b else 0, 1)
_modulo = _binary("%", lambda a, b: a % b if b else 0)


def _negative(a: Element) -> Element | None:
    """What an element is the negative of, where it says so: a minus stays in front, where no division meets it."""
    if isinstance(a, int):
        return -a if a < 0 else None
    return a.operand if isinstance(a, Unary) and a.symbol == "-" else None


def _negated(a: Element) -> Element:
    inner = _negative(a)
    if inner is not None:
        return inner
    return -a if isinstance(a, int) else code("-{}", a)


def _add(a: Element, b: Element) -> Element:
    inner = _negative(b)
    return _sum(a, b) if inner is None or isinstance(b, int) else _subtract(a, inner)


def _subtract(a: Element, b: Element) -> Element:
    inner = _negative(b)
    if inner is not None:
        return _sum(a, inner)
    return _negated(b) if a == 0 and isinstance(a, int) else _difference(a, b)


def _multiply(a: Element, b: Element) -> Element:
    return _signed(_multiple, a, b)


def _divide(a: Element, b: Element) -> Element | None:
    """ONNX truncates, and Python rounds down: the same of what is not negative, behind a minus that is in front."""
    rounded_down = _rounded_down(a, b)
    if rounded_down is not None:
        return code("{} // {}", rounded_down, b)
    if isinstance(b, int) or _at_least(b) >= 0:
        return _signed(_truncate, a, b)
    return None


def _truncate(a: Element, b: Element) -> Element:
    if isinstance(a, int) or _at_least(a) >= 0 or (isinstance(b, int) and b == 1):
        return _quotient(a, b)
    return call("truncated_size", a, b)


def _at_least(size: Element) -> float:
    """What a size, or what is computed of sizes, is never below."""
    if isinstance(size, int):
        return size
    if isinstance(size, Lit):
        return size.literal.value if isinstance(size.literal.value, int) else -math.inf
    if isinstance(size, BinOp):
        return _result_at_least(size)
    if isinstance(size, Call) and dotted(size.function) in _LARGEST:
        return max(map(_at_least, size.arguments))
    return 0 if isinstance(size, Index) else -math.inf


def _result_at_least(size: BinOp) -> float:
    left, right = _at_least(size.left), _at_least(size.right)
    if size.symbol == "+":
        return left + right
    if size.symbol == "-":
        return left - right if isinstance(size.right, Lit) else -math.inf
    is_positive = right >= 0 and (left >= 0 or size.symbol == "%")
    return 0 if is_positive else -math.inf


def _rounded_down(a: Element, b: Element) -> Element | None:
    """``n`` where what is divided by b is ``n - n % b``: how ONNX says a quotient that is rounded down."""
    if not isinstance(a, BinOp) or a.symbol != "-":
        return None
    return a.left if a.right.key() == code("{} % {}", a.left, b).key() else None


def _signed(apply: Callable[[Element, Element], Element], a: Element, b: Element) -> Element:
    """A product, or a quotient that truncates: its sign is that of both operands."""
    first, second = _negative(a), _negative(b)
    made = apply(a if first is None else first, b if second is None else second)
    return made if (first is None) == (second is None) else _negated(made)


def _remainder(node: ir.Node, a: Elements, b: Elements) -> Elements | None:
    """Of the divisor's sign; the other remainder differs for negative numbers alone, which sizes are not."""
    return None if _int(node, "fmod", 0) else _elementwise(_modulo)(node, a, b)


def _product(items: tuple[Element, ...]) -> Element:
    result: Element = 1
    for item in items:
        result = _multiply(result, item)
    return result


def _elementwise(apply: Callable[[Element, Element], Element | None]) -> Callable[..., Elements | None]:
    def rule(node: ir.Node, a: Elements, b: Elements) -> Elements | None:
        length = max(len(a.items), len(b.items))
        if {len(a.items), len(b.items)} - {1, length} or not a.items or not b.items:
            return None
        left = a.items * (length // len(a.items))
        right = b.items * (length // len(b.items))
        made = [apply(x, y) for x, y in zip(left, right, strict=True)]
        known = tuple(item for item in made if item is not None)
        return Elements(known, max(a.rank, b.rank)) if len(known) == len(made) else None

    return rule


def _variadic(apply: Callable[[Element, Element], Element]) -> Callable[..., Elements | None]:
    pair = _elementwise(apply)

    def rule(node: ir.Node, first: Elements, *others: Elements) -> Elements | None:
        result: Elements | None = first
        for other in others:
            result = pair(node, result, other) if result is not None else None
        return result

    return rule


# --- one rule an op ------------------------------------------------------------------------------------------------


def _gather(node: ir.Node, data: Elements, indices: Elements) -> Elements | None:
    if not indices.is_static or data.rank != 1:
        return None
    try:
        return Elements(tuple(data.items[i] for i in indices.items), indices.rank)  # type: ignore[index]
    except IndexError:
        return None


def _slice(node: ir.Node, data: Elements, starts: Elements, ends: Elements, *rest: Elements | None) -> Elements | None:
    step = rest[1] if len(rest) > 1 and rest[1] is not None else Elements((1,), 1)
    if data.rank != 1:
        return None
    first, last, by = starts.items[0], ends.items[0], step.items[0]
    if not (isinstance(first, int) and isinstance(last, int) and isinstance(by, int)):
        return None
    return Elements(data.items[first:last:by], 1)


def _concat(node: ir.Node, *parts: Elements) -> Elements | None:
    return Elements(tuple(item for part in parts for item in part.items), 1)


def _unsqueeze(node: ir.Node, data: Elements, axes: Elements) -> Elements | None:
    return Elements(data.items, 1) if data.rank == 0 and len(axes.items) == 1 else None


def _squeeze(node: ir.Node, data: Elements, axes: Elements | None = None) -> Elements | None:
    return Elements(data.items, 0) if len(data.items) == 1 else data


def _reshape(node: ir.Node, data: Elements, shape: Elements) -> Elements | None:
    return Elements(data.items, len(shape.items)) if len(shape.items) <= 1 else None


def _cast(node: ir.Node, data: Elements) -> Elements | None:
    target = ir.DataType(_int(node, "to", 7))
    return data if target in (ir.DataType.INT64, ir.DataType.INT32) else None


def _identity(node: ir.Node, data: Elements) -> Elements | None:
    return data


def _negate(node: ir.Node, data: Elements) -> Elements | None:
    return Elements(tuple(_negated(i) for i in data.items), data.rank)


def _reduce_product(node: ir.Node, data: Elements, axes: Elements | None = None) -> Elements | None:
    return Elements((_product(data.items),), _int(node, "keepdims", 1) if data.rank else 0)


def _range(node: ir.Node, start: Elements, limit: Elements, delta: Elements) -> Elements | None:
    if not (start.is_static and limit.is_static and delta.is_static) or delta.items[0] == 0:
        return None
    numbers = range(start.items[0], limit.items[0], delta.items[0])  # type: ignore[arg-type]
    return Elements(tuple(numbers), 1) if len(numbers) <= MAX_ELEMENTS else None


def _constant_of_shape(node: ir.Node, shape: Elements) -> Elements | None:
    attribute = node.attributes.get("value")
    if attribute is None or not shape.is_static or len(shape.items) > 1:
        return None
    tensor = attribute.as_tensor()
    if tensor.dtype not in _SIZES or not shape.items or shape.items[0] > MAX_ELEMENTS:  # type: ignore[operator]
        return None
    return Elements((int(tensor.numpy().reshape(-1)[0]),) * shape.items[0], 1)  # type: ignore[operator]


_RULES: dict[str, Callable[..., Elements | None]] = {
    "Shape": _identity,
    "Size": _identity,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Cast": _cast,
    "Identity": _identity,
    "Neg": _negate,
    "Add": _elementwise(_add),
    "Sub": _elementwise(_subtract),
    "Mul": _elementwise(_multiply),
    "Div": _elementwise(_divide),
    "Mod": _remainder,
    "ReduceProd": _reduce_product,
    "Range": _range,
    "ConstantOfShape": _constant_of_shape,
}
