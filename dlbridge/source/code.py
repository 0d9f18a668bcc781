"""Code fragments: text with holes for values and literals, so that equal blocks can be found and names chosen late."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.source.names import quoted


@dataclass(frozen=True)
class Literal:
    """A Python literal. Where blocks differ only in a literal, it becomes their parameter, named by ``hint``.

    One with a ``keyword`` is printed as ``, keyword=value``, and not at all where it is the default.
    """

    value: Any
    hint: str = "value"
    keyword: str | None = None
    default: Any = None

    def text(self, parameter: str | None = None) -> str:
        """As printed; as a parameter of that name where it is one."""
        if self.keyword is None:
            return parameter or literal_text(self.value)
        if parameter is None and self.value == self.default:
            return ""
        return f", {self.keyword}={parameter or literal_text(self.value)}"


@dataclass(frozen=True)
class Default:
    """A keyword's value that is printed where it is not the default (in ``call``, behind a positional argument)."""

    value: Any
    default: Any


@dataclass(frozen=True)
class Raw:
    """Text that is printed as it is (``torch.float32``)."""

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, eq=False)
class Code:
    """An expression: pieces of text, values (printed as the variable's name) and literals."""

    parts: tuple[str | ir.Value | Literal, ...]

    def values(self) -> Iterator[ir.Value]:
        """The values that the expression reads, in order."""
        return (p for p in self.parts if isinstance(p, ir.Value))

    def literals(self) -> Iterator[Literal]:
        return (p for p in self.parts if isinstance(p, Literal))

    def text(self, name: Callable[[ir.Value], str], literal: Callable[[Literal], str] | None = None) -> str:
        """Print, with a name for each value and (by default the plain) text for each literal."""
        show = literal or Literal.text
        return "".join(p if isinstance(p, str) else name(p) if isinstance(p, ir.Value) else show(p) for p in self.parts)


def code(template: str, *args: Any, **fields: Any) -> Code:
    """Fill a ``str.format`` template whose fields are values, other code, lists of these, or literals.

    ``code("F.pad({x}, {pad})", x=op.x, pad=[1, 2])``; a keyword field names its literal's hint.
    """
    parts: list[str | ir.Value | Literal] = []
    position = 0
    for text, field, _, _ in string.Formatter().parse(template):
        if text:
            parts.append(text)
        if field is None:
            continue
        if field == "":
            field, position = str(position), position + 1
        argument = args[int(field)] if field.isdigit() else fields[field]
        parts.extend(_parts(argument, "value" if field.isdigit() else field))
    return Code(tuple(parts))


def call(function: str, *args: Any, **keywords: Any) -> Code:
    """``function(arg, ..., keyword=...)``; keywords that are None are left out."""
    kept = {k: v for k, v in keywords.items() if v is not None}
    text = ", ".join(f"{{{i}}}" for i in range(len(args)))
    for name, value in kept.items():
        if isinstance(value, Default) and text:
            kept[name] = Literal(value.value, name, name, value.default)
            text += f"{{{name}}}"
        else:
            text += f"{', ' if text else ''}{name}={{{name}}}"
    return code(f"{function}({text})", *args, **kept)


def join(separator: str, items: list[Any]) -> Code:
    """Fragments one after the other, with text between them."""
    parts: list[Any] = []
    for index, item in enumerate(items):
        parts.extend([separator] if index else [])
        parts.extend(_parts(item, "value"))
    return Code(tuple(parts))


def _parts(argument: Any, hint: str) -> list[str | ir.Value | Literal]:
    if isinstance(argument, Code):
        return list(argument.parts)
    if isinstance(argument, Raw):
        return [argument.text]
    if isinstance(argument, ir.Value):
        return [argument]
    if isinstance(argument, Literal):
        return [argument]
    if isinstance(argument, Default):
        return [Literal(argument.value, hint)]
    if isinstance(argument, (list, tuple)) and any(isinstance(a, (Code, Raw, ir.Value, Literal)) for a in argument):
        inner = join(", ", list(argument)).parts
        closing = ",)" if isinstance(argument, tuple) and len(argument) == 1 else ")"
        return ["[", *inner, "]"] if isinstance(argument, list) else ["(", *inner, closing]
    return [Literal(argument, hint)]


def literal_text(value: Any) -> str:
    """A Python literal as source text; numpy scalars and arrays become Python numbers and nested lists.

    Floats print as the shortest text that gives the same number *in their own type*.
    """
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return literal_text(value[()])
        return "[" + ", ".join(literal_text(v) for v in value) + "]"
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, np.integer):
        return str(int(value))
    if isinstance(value, (float, np.floating)) or type(value).__module__ == "ml_dtypes":
        return _float_text(value)
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, tuple):
        return "(" + ", ".join(literal_text(v) for v in value) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(literal_text(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal_text(k)}: {literal_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, str):
        return quoted(value)
    return repr(value)


def _float_text(value: Any) -> str:
    if math.isnan(float(value)):
        return 'float("nan")'
    if math.isinf(float(value)):
        return 'float("inf")' if value > 0 else '-float("inf")'
    if isinstance(value, np.floating) and not isinstance(value, np.float64):
        shortest = float(str(value))
        fits = value.dtype.type(shortest) == value and abs(shortest) <= _largest(value)
        return repr(shortest if fits else float(value))
    return repr(float(value))


def _largest(value: np.floating) -> float:
    """The largest number of a float's type; the shortest text of that number may be a larger one, which overflows."""
    return float(np.finfo(value.dtype).max)


def single(value: float | int) -> float:
    """The shortest decimal that is the same float32: an attribute of 0.009999999776482582 was written as 0.01."""
    short = float(str(np.float32(value)))
    return short if math.isinf(short) or abs(short) <= _largest(np.float32(0)) else float(value)
