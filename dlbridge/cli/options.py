"""The options of frameworks as flags: of every framework that is registered, plug-ins too, with help of their own."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

import click

from dlbridge import frameworks
from dlbridge.cli import making

__all__ = ["ConvertingCommand", "FrameworkCommand", "reading", "spellings", "writing"]

Purpose = Literal["read", "write"]
#: Key of ``ctx.meta``: flag -> the value that was given.
_GIVEN = "dlbridge.cli.options.given"


@dataclass(frozen=True)
class Form:
    """How a flag is typed. Options of two frameworks share a flag if they agree in all of this.

    Attributes:
        spelling: ``--opset``, ``--lift/--no-lift``.
        kind: The type of its value; None for a flag without a value.
        choices: The values that are allowed, if they are listed.
        metavar: What the help shows for the value.
        parse: Converts the texts to the option's value; such a flag may be given more than once.
    """

    spelling: str
    kind: type | None = None
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    parse: Callable[[Sequence[str]], Any] | None = None


@dataclass(frozen=True)
class Use:
    """An option of a framework that a flag sets."""

    framework: str
    purpose: Purpose
    option: frameworks.Option


class FrameworkFlag(click.Option):
    """A flag that sets an option of one framework or of several.

    Its value is not passed to the command's function: ``reading`` and ``writing`` return it.
    """

    def __init__(self, form: Form) -> None:
        kind: Any = click.Choice(form.choices) if form.choices else form.kind
        super().__init__(
            [form.spelling],
            type=kind,
            is_flag=kind is None,
            multiple=form.parse is not None,
            metavar=form.metavar,
            default=None,
            expose_value=False,
            callback=_keep,
        )
        self.form = form
        self.uses: list[Use] = []


def _keep(ctx: click.Context, flag: click.Parameter, value: Any) -> None:
    if value is None or value == ():
        return
    assert isinstance(flag, FrameworkFlag)
    if flag.form.parse is not None:
        try:
            value = flag.form.parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx=ctx, param=flag) from None
    ctx.meta.setdefault(_GIVEN, {})[flag] = value


class FrameworkCommand(click.Command):
    """A command that has the options of the frameworks as flags, in addition to its own.

    They are looked up when the command is used or its help is shown, not when it is defined.
    """

    purposes: tuple[Purpose, ...] = ("read",)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = self._own(ctx)
        return [*own, *_flags(self.purposes, {text for param in own for text in (*param.opts, *param.secondary_opts)})]

    def _own(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, and those of how its MODEL is made."""
        return [*super().get_params(ctx), *self._making]

    @functools.cached_property
    def _making(self) -> list[click.Option]:
        return making.options()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = [param.get_help_record(ctx) for param in self._own(ctx) if isinstance(param, click.Option)]
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record is not None])
        flags = [param for param in self.get_params(ctx) if isinstance(param, FrameworkFlag)]
        for purpose in self.purposes:
            for names, rows in _groups(ctx, flags, purpose):
                with formatter.section(_heading(purpose, names)):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Frameworks"):
            formatter.write_text(", ".join(frameworks.names()))


class ConvertingCommand(FrameworkCommand):
    purposes = ("read", "write")


def _flags(purposes: Iterable[Purpose], taken: set[str]) -> list[FrameworkFlag]:
    """The flags of all frameworks. A flag that the command itself or an earlier framework uses for something else is
    prefixed with the framework's name."""
    found: dict[str, FrameworkFlag] = {}
    for framework in frameworks.all_frameworks():
        for purpose in purposes:
            declared = framework.ReadOptions if purpose == "read" else framework.WriteOptions
            for option in frameworks.declared(declared):
                form = _form(option)
                if form is None:
                    continue
                has_other_meaning = form.spelling in found and found[form.spelling].form != form
                if has_other_meaning or taken & set(form.spelling.split("/")):
                    form = _form(option, f"{framework.name}-")
                    assert form is not None
                flag = found.setdefault(form.spelling, FrameworkFlag(form))
                flag.uses.append(Use(framework.name, purpose, option))
    return list(found.values())


def _form(option: frameworks.Option, prefix: str = "") -> Form | None:
    """The form of an option's flag; None if the option has no flag."""
    if option.python_only:
        return None
    if option.flag is not None:
        return Form(f"--{prefix}{option.flag.name}", str, (), option.flag.metavar, option.flag.parse)
    word = prefix + option.name.replace("_", "-")
    kinds = [kind for kind in _alternatives(option.type) if kind is not types.NoneType]
    if kinds == [bool]:
        return Form(f"--{word}/--no-{word}" if option.default else f"--{word}")
    if len(kinds) == 1 and typing.get_origin(kinds[0]) is Literal:
        return Form(f"--{word}", str, typing.get_args(kinds[0]))
    if len(kinds) == 1 and kinds[0] in (int, float, str):
        return Form(f"--{word}", kinds[0])
    return None


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def _groups(
    ctx: click.Context, flags: Iterable[FrameworkFlag], purpose: Purpose
) -> list[tuple[tuple[str, ...], list[tuple[str, str]]]]:
    """Group the flags: (frameworks, the flags that they share with the same help), the largest groups first."""
    found: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for flag in flags:
        texts: dict[str, list[str]] = {}
        for use in flag.uses:
            if use.purpose == purpose:
                texts.setdefault(use.option.help, []).append(use.framework)
        for text, names in texts.items():
            record = flag.get_help_record(ctx)
            if record is not None:
                found.setdefault(tuple(names), []).append((record[0], text))
    return sorted(found.items(), key=lambda group: -len(group[0]))


def _heading(purpose: Purpose, names: Sequence[str]) -> str:
    if purpose == "read":
        return f"Options for a model of {', '.join(names)}"
    return f"Options of {', '.join(f'--to {name}' for name in names)}"


def spellings(command: click.Command, ctx: click.Context, framework: str) -> list[str]:
    """The flags by which a command sets options of a framework."""
    flags = [param for param in command.get_params(ctx) if isinstance(param, FrameworkFlag)]
    return [flag.opts[0] for flag in flags if any(use.framework == framework for use in flag.uses)]


def _given(ctx: click.Context) -> dict[FrameworkFlag, Any]:
    given: dict[FrameworkFlag, Any] = ctx.meta.get(_GIVEN, {})
    return given


def reading(ctx: click.Context) -> dict[str, Any]:
    """The options that were given for reading, by name, and those of how the model is made. Whether the framework that
    reads takes them turns out when the model is loaded."""
    options = {
        use.option.name: value for flag, value in _given(ctx).items() for use in flag.uses if use.purpose == "read"
    }
    return {**options, **making.given(ctx)}


def writing(ctx: click.Context, to: str) -> dict[str, Any]:
    """The options that were given for writing, by name.

    Raises:
        click.UsageError: When one is an option of other targets.
    """
    found = {}
    for flag, value in _given(ctx).items():
        names = {use.framework: use.option.name for use in flag.uses if use.purpose == "write"}
        if to in names:
            found[names[to]] = value
        elif names:
            targets = " and ".join(f"--to {name}" for name in names)
            raise click.UsageError(f"{flag.opts[0]} is an option of {targets}", ctx)
    return found
