"""What a user says of a model's inputs, as text: ``x:float32[batch,3,224,224]``, without a dtype ``x[batch,seq]``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlbridge.constraints import POLYNOMIAL, Expression
from dlbridge.errors import SignatureError, suggest

__all__ = [
    "DEFAULT_DTYPE",
    "InputText",
    "arithmetic",
    "bounded",
    "by_parameter",
    "no_dtype",
    "parse_input",
    "parse_inputs",
]

#: The dtype of an input of which neither the user nor the model says one.
DEFAULT_DTYPE = "float32"

#: What is wrong with a text that is no size.
_NO_SIZE = "is no size: a number, a name, sums and products of these, or a name with its bounds (2<=n<=16)"
#: What a mistyped dtype may mean.
_DTYPES = (
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128", "bool"),
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
)

_INPUT = re.compile(r"(?P<dtype>\w+)?\[(?P<sizes>[^\]]*)\]")
_NAMED = re.compile(r"(?P<name>[\w.]+)(?::(?P<dtype>\w+))?\[(?P<sizes>[\w\s,+*<=>-]*)\]")


@dataclass(frozen=True)
class InputText:
    """An input as its text says it.

    Attributes:
        dtype: ``"float32"``; None where the text has none.
        sizes: A number, a name, arithmetic on names or a bounded name for each axis: ``"3"``, ``"batch"``, ``"2*n"``.
    """

    dtype: str | None
    sizes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.dtype or ''}[{','.join(self.sizes)}]"

    def with_dtype(self, known: str | None) -> InputText:
        """The same with a dtype: its own, else the one that is known, else ``DEFAULT_DTYPE``."""
        return InputText(self.dtype or known or DEFAULT_DTYPE, self.sizes)


def parse_input(text: str, where: str) -> InputText:
    """Read ``float32[batch,3]``, or ``[batch,3]``.

    Raises:
        SignatureError: When the text is not of that form.
    """
    match = _INPUT.fullmatch(re.sub(r"\s", "", text))
    if match is None:
        raise SignatureError(f"'{text}' is not of the form dtype[size,size,...]", where=where)
    return InputText(match["dtype"], tuple(size for size in match["sizes"].split(",") if size))


def bounded(size: str, where: str) -> tuple[str, Expression | None]:
    """A size without its bounds, and the bounds: ``n`` of ``2<=n<=16``.

    Raises:
        SignatureError: When the text is no bounded name.
    """
    if not re.search(r"[<>=]", size):
        return size, None
    try:
        bounds = Expression(size)
    except ValueError:
        raise SignatureError(f"'{size}' {_NO_SIZE}", where=where) from None
    if len(bounds.names) != 1:
        raise SignatureError(f"'{size}' bounds no single name", where=where)
    return next(iter(bounds.names)), bounds


def by_parameter(example: Any, parameters: Sequence[str]) -> dict[str, Any]:
    """Parameter name -> the part of an example that is passed to it.

    Args:
        example: A mapping by name, or what is passed by position: a tuple or list, or one array.
        parameters: The names of the parameters, in order.

    Raises:
        SignatureError: When there are more parts than parameters.
    """
    if isinstance(example, Mapping):
        return dict(example)
    parts = list(example) if type(example) in (tuple, list) else [example]
    if len(parts) > len(parameters):
        raise SignatureError(
            f"the example has {len(parts)} inputs, the model takes {len(parameters)}",
            hint=f"its parameters are: {', '.join(parameters)}",
        )
    return dict(zip(parameters, parts, strict=False))


def parse_inputs(texts: Sequence[str]) -> dict[str, str]:
    """Input name -> ``float32[batch,3]``, of ``x:float32[batch,3]``; the dtype may be left out: ``x[batch,3]``.

    Raises:
        ValueError: When a text is not of that form.
    """
    found = {}
    for text in texts:
        match = _NAMED.fullmatch(re.sub(r"\s", "", text))
        if match is None:
            raise ValueError(f"'{text}' is not of the form name:dtype[size,size,...] or name[size,size,...]")
        if match["name"] in found:
            raise ValueError(f"'{match['name']}' is there twice")
        found[match["name"]] = f"{match['dtype'] or ''}[{match['sizes']}]"
    return found


def no_dtype(text: str, dtype: str | None, where: str | None) -> SignatureError:
    """The error of an input whose dtype does not exist."""
    return SignatureError(f"'{dtype}' is no dtype: '{text}'", where=where, hint=suggest(dtype or "", _DTYPES))


def arithmetic(text: str, names: Mapping[str, Any]) -> Any:
    """Evaluate ``2*batch + 1`` for the sizes of these names.

    Raises:
        SignatureError: When the text is no arithmetic on them.
    """
    try:
        return Expression(text, POLYNOMIAL).value(names)
    except ValueError:
        raise SignatureError(f"'{text}' {_NO_SIZE}") from None
