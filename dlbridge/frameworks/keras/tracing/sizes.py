"""Sizes that are not known before a model runs, while its code runs on tensors without numbers.

Such a size stands as an int that knows what it is: a prime that no real size is likely to be a multiple of, and the
polynomial in the graph's dims. Arithmetic keeps both. An int that comes back from code that drops the polynomial
(numpy's product) is found again by its prime. The code is run with two sets of primes; where it does not do the same
with both, it does with a size what cannot be followed, and is refused.

Where code asks how a size compares with another, it gets the answer that the primes give, and the question is noted:
``guards.py`` finds out whether the code does otherwise at other sizes.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.inputs import bounded
from dlbridge.frameworks.keras.tracing.size_questions import Questions, UnknownSizeError, line_of_user
from dlbridge.passes.sizes import Size

#: The first prime of each set is the largest below.
_SETS = (7920, 6998)
#: A remainder or quotient up to this number is represented by a prime too, as code has many such numbers.
_COMMON = 512
#: Arrays of more elements are not made of sizes.
_SMALL = 16


def to_array(tensor: Any) -> np.ndarray:
    """The numbers of a tensor or variable. (Keras' own function fails for a single bfloat16 of TensorFlow.)"""
    return np.asarray(tensor.numpy() if hasattr(tensor, "numpy") else keras.ops.convert_to_numpy(tensor))


class SizeBook:
    """The unknown sizes of a graph, each represented by a prime while code runs.

    Attributes:
        places: Name of a size -> (value, axis) where it can be read.
        recipes: Name of a quotient or rest -> (op, what is divided, by what).
        questions: What code asks of sizes.
    """

    def __init__(self) -> None:
        self.places: dict[str, tuple[ir.Value, int]] = {}
        self.recipes: dict[str, tuple[str, Size, Size]] = {}
        self.questions = Questions()
        self._set = 0
        self._primes: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self._known: dict[int, Size] = {}
        self._inside: list[Any] = []  # functions whose closures are compared

    @contextmanager
    def second_set(self) -> Iterator[None]:
        """Within the block, represent sizes by the other set of primes."""
        self._set, before = 1, self._known
        self._known = {}
        try:
            yield
        finally:
            self._set, self._known = 0, before

    def stated_size(self, text: str, value: str) -> str:
        """A size that the user states of an input, without its bounds; of ``4*n``, ``n`` is a size too.

        Raises:
            SignatureError: When it is neither a name, nor arithmetic on one, nor a bounded name.
        """
        name, bounds = bounded(text, value)
        if bounds is not None and all(bounds.text != known.text for known in self.questions.stated):
            self.questions.stated.append(bounds)
        size = Size.of(name)
        if size is not None and len(size.terms) == 1 and not name.isidentifier():
            ((names, count),) = size.terms.items()
            if len(names) == 1 and names[0] not in self.places:
                self.recipes.setdefault(names[0], ("Div", Size({(name,): 1}), Size({(): count})))
        return name

    def of_axis(self, value: ir.Value, axis: int) -> int:
        """The size of an axis as an int, symbolic if the size is unknown."""
        dim = value.shape[axis]  # type: ignore[index]
        if isinstance(dim, int):
            return dim
        size = Size.of(dim)
        if size is None or any(n not in self.places and n not in self.recipes for names in size.terms for n in names):
            name = str(dim.value) if dim.value is not None else f"axis {axis} of {value.name}"
            self.places.setdefault(name, (value, axis))
            size = Size({(name,): 1})
        return self.symbolic(size)

    def symbolic(self, size: Size) -> int:
        """A size as an int, symbolic unless it is a number."""
        return size.number if size.number is not None else SymbolicSize(size, self)

    def number(self, size: Size) -> int:
        """The prime that represents a size."""
        total = 0
        for names, count in size.terms.items():
            for name in names:
                count *= self._name_number(name)
            total += count
        self._known[total] = size
        return total

    def _name_number(self, name: str) -> int:
        if name in self.recipes:
            op, a, b = self.recipes[name]
            x, y = self.number(a), self.number(b)
            number = x // y if op == "Div" else x % y
            if abs(number) > _COMMON:
                return number
        primes = self._primes[self._set]
        if name not in primes:
            primes[name] = _prime_below(min(primes.values(), default=_SETS[self._set]))
        return primes[name]

    def recover(self, number: Any) -> Size | None:
        """The size that an int represents; None for a plain number."""
        if isinstance(number, SymbolicSize):
            return number.size
        if not isinstance(number, (int, np.integer)) or isinstance(number, bool) or not self._primes[self._set]:
            return None
        number = int(number)
        if number in self._known:
            found = self._known[number]
            return found if found.number is None else None
        rest, size = number, Size.of(1)
        for name, prime in self._primes[self._set].items():
            while rest and rest % prime == 0:
                rest //= prime
                size = size * Size({(name,): 1})  # type: ignore[operator]
        return size * Size.of(rest) if rest != number else None  # type: ignore[operator]

    def has(self, array: np.ndarray) -> bool:
        """Whether a number in a small array stands for a size, which has been forgotten on the way there."""
        if array.size > _SMALL or array.dtype.kind not in "iuf" or not self._known:
            return False
        numbers = [int(n) for n in array.reshape(-1) if np.isfinite(n)]
        return any(abs(n) > _COMMON and n in self._known and self._known[n].number is None for n in numbers)

    def of_shape(self, shape: Any) -> tuple[Any, ...]:
        """A shape with the ints that represent unknown sizes replaced by symbolic ones."""
        return tuple(d if d is None or self.recover(d) is None else self.symbolic(self.recover(d)) for d in shape)  # type: ignore[arg-type]

    def derived(self, op: str, a: Size, b: Size) -> int:
        """The quotient ("Div") or rest ("Mod") of two sizes."""
        whole = a.over(b)
        if whole is not None:
            return self.symbolic(whole) if op == "Div" else 0
        name = f"({a}){'//' if op == 'Div' else '%'}({b})"
        self.recipes.setdefault(name, (op, a, b))
        return self.symbolic(Size({(name,): 1}))

    def text(self, size: Size) -> str:
        """A size as arithmetic on the names of sizes that inputs have."""
        terms = []
        for names, count in sorted(size.terms.items(), key=lambda term: (-len(term[0]), term[0])):
            factors = [str(count)] if count != 1 or not names else []
            terms.append("*".join([*factors, *map(self._named_text, names)]))
        return " + ".join(terms).replace("+ -", "- ") or "0"

    def _named_text(self, name: str) -> str:
        if name.isidentifier():
            return name
        if name not in self.recipes:
            return f"({name})"
        op, a, b = self.recipes[name]
        sides = [text if text.isalnum() or text.isidentifier() else f"({text})" for text in map(self.text, (a, b))]
        return f"({sides[0]} {'//' if op == 'Div' else '%'} {sides[1]})"

    def answer(self, a: Size, how: str, b: Size, usual: bool) -> bool:
        """What code is told that asks for a comparison; ``usual`` is what the primes say."""
        if _is_above_zero(a, self) and (how, b.number) in _SETTLED:
            return usual
        return self.questions.answer(self.text(a), how, self.text(b), usual)

    def plain(self, item: Any) -> Any:
        """What two runs with different primes must agree on: sizes by what they are, arrays by shape and sum."""
        if isinstance(item, (list, tuple)):
            return [self.plain(i) for i in item]
        if isinstance(item, dict):
            return {str(k): self.plain(v) for k, v in item.items()}
        if isinstance(item, slice):
            return [self.plain(i) for i in (item.start, item.stop, item.step)]
        size = self.recover(item)
        if size is not None:
            return str(size)
        if item is None or isinstance(item, (bool, int, float, str)):
            return item
        if isinstance(item, np.generic):
            return item.item()
        if isinstance(item, keras.KerasTensor):
            return "tensor"
        if inspect.isfunction(item) and item not in self._inside:
            self._inside.append(item)
            try:
                return [item.__name__, self.plain(closure(item))]
            finally:
                self._inside.pop()
        if keras.ops.is_tensor(item) or isinstance(item, np.ndarray):
            array = to_array(item)
            return [array.shape, float(np.sum(np.abs(array.astype(np.float64)))) if array.dtype.kind in "biuf" else 0]
        return type(item).__name__


def closure(function: Any) -> list[Any]:
    """The variables that a function captures from the code around it, and its defaults."""
    found = []
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # nothing in it yet
            found.append(cell.cell_contents)
    return [*found, *(getattr(function, "__defaults__", None) or ())]


def _operator(how: str) -> tuple[Callable[[SymbolicSize, Any], Any], Callable[[SymbolicSize, Any], Any]]:
    """The methods of a Python operator: with the size on its left, and on its right."""
    return lambda size, other: size._with(other, how), lambda size, other: size._with(other, how, True)


def _comparison(how: str) -> Callable[[SymbolicSize, Any], bool]:
    """The method of a Python operator that compares."""
    return lambda size, other: size._compared(other, how)


#: Python's comparisons, and the methods of them.
_COMPARISONS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
#: What is true, or false, of every size above zero.
_SETTLED = {("==", 0), ("!=", 0), ("<=", 0), (">", 0), ("<", 0), (">=", 0), ("<", 1), (">=", 1)}


def _is_above_zero(size: Size, book: SizeBook) -> bool:
    return size.positive and not any(name in book.recipes for names in size.terms for name in names)


#: What is computed of sizes without a remainder.
_EXACT = {"Add": operator.add, "Sub": operator.sub, "Mul": operator.mul}


class SymbolicSize(int):
    """An unknown size as a Python int.

    Attributes:
        dtype: What Keras asks an operand for: that of Python's ints.
    """

    size: Size
    book: SizeBook
    dtype = int

    def __new__(cls, size: Size, book: SizeBook) -> SymbolicSize:
        made = super().__new__(cls, book.number(size))
        made.size, made.book = size, book
        return made

    def _with(self, other: Any, how: str, turned: bool = False) -> Any:
        if isinstance(other, bool) or not isinstance(other, (int, np.integer)):
            if isinstance(other, float):
                raise UnknownSizeError(f"it computes a number from the size '{self.size}', which is not known before")
            return NotImplemented
        theirs = other.size if isinstance(other, SymbolicSize) else Size.of(int(other))
        a, b = (theirs, self.size) if turned else (self.size, theirs)
        assert a is not None and b is not None
        if how in ("Div", "Mod"):
            return self.book.derived(how, a, b)
        return self.book.symbolic(_EXACT[how](a, b))

    __add__, __radd__ = _operator("Add")
    __sub__, __rsub__ = _operator("Sub")
    __mul__, __rmul__ = _operator("Mul")
    __floordiv__, __rfloordiv__ = _operator("Div")
    __mod__, __rmod__ = _operator("Mod")

    def __and__(self, other: Any) -> Any:
        is_mask = type(other) is int and other > 0 and other & (other + 1) == 0  # all of its bits, as 7 has
        return self % (other + 1) if is_mask else self._of_bits()

    def __rshift__(self, other: Any) -> Any:
        return self // 2**other if type(other) is int and other >= 0 else self._of_bits()

    def __lshift__(self, other: Any) -> Any:
        return self * 2**other if type(other) is int and other >= 0 else self._of_bits()

    def _of_bits(self, *_: Any) -> Any:
        raise UnknownSizeError(f"it computes with the bits of the size '{self.size}', which is not known before")

    __or__ = __ror__ = __xor__ = __rxor__ = __rlshift__ = __rrshift__ = __invert__ = _of_bits
    __rand__ = __and__

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        if type(other) is not int or other < 0 or modulo is not None:
            raise UnknownSizeError(f"it takes a power of the size '{self.size}', which is not known before")
        return math.prod([self] * other)

    def __rpow__(self, other: Any, modulo: Any = None) -> Any:
        raise UnknownSizeError(f"it takes a power by the size '{self.size}', which is not known before")

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def __neg__(self) -> Any:
        return self.book.symbolic(-self.size)

    def __float__(self) -> float:
        raise UnknownSizeError(f"it computes a number from the size '{self.size}', which is not known before")

    def __truediv__(self, other: Any) -> Any:
        return self.__float__()

    def __rtruediv__(self, other: Any) -> Any:
        return self.__float__()

    def _compared(self, other: Any, how: str) -> Any:
        if isinstance(other, float) and other.is_integer():
            other = int(other)
        usual = getattr(int, f"__{_COMPARISONS[how]}__")(self, other)
        if isinstance(other, float) and line_of_user() is not None:
            raise UnknownSizeError(f"it compares the size '{self.size}', not known before, with {other}")
        if usual is NotImplemented or isinstance(other, bool):
            return usual
        theirs = other.size if isinstance(other, SymbolicSize) else Size.of(int(other))
        assert theirs is not None
        return usual if theirs == self.size else self.book.answer(self.size, how, theirs, usual)

    def __bool__(self) -> bool:
        return self._compared(0, "!=")

    __lt__, __le__ = _comparison("<"), _comparison("<=")
    __gt__, __ge__ = _comparison(">"), _comparison(">=")
    __eq__, __ne__ = _comparison("=="), _comparison("!=")
    __hash__ = int.__hash__


def _prime_below(number: int) -> int:
    candidate = number - 1
    while any(candidate % d == 0 for d in range(2, int(candidate**0.5) + 1)):
        candidate -= 1
    return candidate
