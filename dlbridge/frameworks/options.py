"""The options of a framework: declared once, as a dataclass, for Python's keyword arguments and the command line.

>>> @dataclass(frozen=True)
... class WriteOptions:
...     opset: int | None = option(None, "Opset of the file.")

makes ``dlbridge.convert(..., opset=21)`` and ``dlbridge convert ... --opset 21``.
"""

from __future__ import annotations

import functools
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Union

from dlbridge.errors import DlbridgeError, suggest
from dlbridge.frameworks.inputs import parse_inputs

__all__ = [
    "EXAMPLE",
    "INPUTS",
    "ChannelsLastOptions",
    "CommonReadOptions",
    "CommonWriteOptions",
    "Flag",
    "NoOptions",
    "Option",
    "check_option",
    "declared",
    "inputs_option",
    "option",
]


@dataclass(frozen=True)
class Flag:
    """How an option is given on the command line, where its type does not tell.

    Attributes:
        name: The flag, without its dashes.
        metavar: What stands for its text in the help.
        parse: Makes the option's value of the texts that were given; a ``ValueError`` says what is wrong with one.
    """

    name: str
    metavar: str
    parse: Callable[[Sequence[str]], Any]


@dataclass(frozen=True)
class Option:
    """One option of a framework, as its dataclass declares it.

    Attributes:
        name: The keyword argument.
        type: What its values are: ``bool``, ``int``, ``float``, ``str``, a ``Literal``, any of these ``| None``. Values
            of other types are checked by the framework.
        default: Its value when it is not given.
        help: One sentence for people.
        flag: How the command line has it; None where its type tells, or the command line has no word for it.
        python_only: Whether the command line has no word for it.
    """

    name: str
    type: Any
    default: Any
    help: str
    flag: Flag | None = None
    python_only: bool = False


@dataclass(frozen=True)
class NoOptions:
    """The options of a framework that has none."""


def option(default: Any, help: str, *, flag: Flag | None = None, python_only: bool = False) -> Any:
    """A field of a dataclass of options.

    Args:
        default: The value when the option is not given.
        help: One sentence: what it does.
        flag: How the command line has it; when None, as its type tells (``io_layout`` becomes ``--io-layout``).
        python_only: Whether the command line is to have no word for it.
    """
    return field(default=default, metadata={"help": help, "flag": flag, "python_only": python_only})


def inputs_option(help: str) -> Any:
    """The option ``inputs`` of readers that are told of inputs what a model does not say itself."""
    return option(None, help, flag=INPUTS)


@dataclass(frozen=True)
class CommonReadOptions:
    """Options that most readers have."""

    name: str | None = option(None, "Name of the model, where it is not to have its own.")
    partial: bool = option(False, "Keep what cannot be read as stand-ins, to be filled in by hand.")


@dataclass(frozen=True)
class CommonWriteOptions:
    """Options that most writers have."""

    partial: bool = option(False, "Write what has no rule as stand-ins to fill in, which raise when they are called.")


@dataclass(frozen=True)
class ChannelsLastOptions(CommonWriteOptions):
    """Options of writers whose framework computes channels-last."""

    io_layout: Literal["same", "native"] = option(
        "same", "Layout of inputs and outputs: the 'same', or 'native', which is channels-last."
    )


@functools.cache
def declared(options: type) -> tuple[Option, ...]:
    """The options that a dataclass declares, in order."""
    hints = typing.get_type_hints(options)
    return tuple(
        Option(
            f.name,
            hints[f.name],
            f.default,
            f.metadata.get("help", ""),
            f.metadata.get("flag"),
            f.metadata.get("python_only", False),
        )
        for f in fields(options)
    )


def check_option(found: Option, value: Any, where: str) -> None:
    """Check the type of a value.

    Raises:
        DlbridgeError: When it is not what the option takes.
    """
    if _fits(value, found.type):
        return
    words = [word for word in _allowed(found.type) if isinstance(word, str)]
    raise DlbridgeError(
        f"option '{found.name}' is {_described(found.type)}, not {_shown(value)}",
        where=where,
        hint=(suggest(value, words) if isinstance(value, str) else None) or found.help,
    )


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if typing.get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if hint is None or hint is type(None):
        return value is None
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    kind = typing.get_origin(hint) or hint
    return isinstance(value, kind) if isinstance(kind, type) else True


def _allowed(hint: Any) -> list[Any]:
    """The values that a type lists."""
    if typing.get_origin(hint) is Literal:
        return list(typing.get_args(hint))
    return [value for part in typing.get_args(hint) for value in _allowed(part)]


def _shown(value: Any) -> str:
    """A value that was given, where it is short; else what it is."""
    return repr(value) if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"


def _described(hint: Any) -> str:
    """``'same' or 'native'``, ``int or None``."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_described(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return " or ".join(repr(value) for value in typing.get_args(hint))
    if hint is type(None):
        return "None"
    kind = typing.get_origin(hint) or hint
    return getattr(kind, "__name__", str(kind))


#: What the option ``example`` of a reader is; the function that makes a model can give it.
EXAMPLE = "Inputs that came with the model: their sizes are fixed, and 'inputs' names those that are not to be."

#: The flag of the option ``inputs``.
INPUTS = Flag("input", "NAME[:DTYPE][SIZES]", parse_inputs)


def check_names(framework: str, purpose: str, options: type, given: Mapping[str, Any], hint: str | None = None) -> None:
    """Check that there is an option of each name that was given.

    Raises:
        DlbridgeError: When there is none of that name; a name that is nearly one is suggested.
    """
    taken = [found.name for found in declared(options)]
    unknown = [name for name in given if name not in taken]
    if not unknown:
        return
    raise DlbridgeError(
        f"{framework} takes no option '{unknown[0]}' to {purpose} a model",
        hint=hint or suggest(unknown[0], taken) or f"it takes: {', '.join(taken) or 'none'}",
    )
