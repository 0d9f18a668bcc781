"""Shared by the subcommands: options, printing, errors."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, DlbridgeWarning, MissingExtraError
from dlbridge.json_types import finite

#: Exit codes: of an error that dlbridge explains, and of a bug.
EXPLAINED, BUG = 1, 70

#: What the system refuses by itself, whatever a program does: rights, space, names.
_REFUSALS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    | {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
)

#: Has an element when the command has printed its JSON document.
_printed: list[bool] = []

#: Package -> the extra that brings it, beside those of the frameworks.
_EXTRAS = {"pyarrow": "data", "PIL": "data", "matplotlib": "plot"}

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for machines instead of text for people."
)
force_option = click.option("--force", is_flag=True, help="Replace what is there.")
limit_option = click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Raise a limit on what a file may contain, e.g. 'nodes=1000000'.",
)


def writing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that reads a model and writes files: --limit, --force and --json."""
    return limit_option(force_option(json_option(command)))


def spec_option(what: str) -> Callable[..., Any]:
    """The option --spec, whose file ``read_spec`` reads. ``what`` it says is how its help begins."""
    return click.option(
        "--spec",
        type=click.Path(exists=True, dir_okay=False),
        help=f"{what}: YAML or JSON of a training section. Default: the model's own.",
    )


def running_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that runs onnxruntime: --provider and --threads."""
    provider = click.option(
        "--provider", "providers", multiple=True, default=("cpu",), show_default=True, help="cpu, cuda, ..."
    )
    threads = click.option(
        "--threads", type=click.IntRange(1), help="Threads for one operation [default: by the work of a call]."
    )
    return provider(threads(command))


def is_given(ctx: click.Context, name: str | None) -> bool:
    """Whether an option was said on the command line."""
    return ctx.get_parameter_source(name or "") is click.core.ParameterSource.COMMANDLINE


def refuse(ctx: click.Context, names: Collection[str], why: str) -> None:
    """Refuse options that would do nothing beside others.

    Raises:
        click.UsageError: When one was given.
    """
    for option in ctx.command.get_params(ctx):
        if option.name in names and is_given(ctx, option.name):
            raise click.UsageError(f"{option.opts[0]} {why}", ctx)


def fail(error: Exception) -> int:
    """Print an error for a person and return the exit code. With DLBRIDGE_DEBUG set, print the traceback too."""
    if os.environ.get("DLBRIDGE_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, ModuleNotFoundError):
        name = (error.name or "").partition(".")[0]
        extra = _EXTRAS.get(name) or frameworks.extra_of(name)
        if extra is not None:
            error = MissingExtraError(
                f"this needs '{name}', which is not installed", hint=f"pip install 'dlbridge[{extra}]'"
            )
    if isinstance(error, DlbridgeError):
        click.echo(f"error: {error}", err=True)
        return EXPLAINED
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        where = f"{error.filename}: " if error.filename is not None else ""
        click.echo(f"error: {where}{error.strerror}", err=True)
        return EXPLAINED
    click.echo(f"error: {type(error).__name__}: {error}", err=True)
    plugin = frameworks.plug_in_of(error)
    whose = "dlbridge" if plugin is None else f"the plug-in '{plugin}'"
    click.echo(f"  this looks like a bug in {whose}; DLBRIDGE_DEBUG=1 shows where", err=True)
    return BUG


def quiet_frameworks() -> None:
    """Keep the frameworks' start-up messages off the terminal, except errors."""
    for framework in frameworks.all_frameworks():
        framework.prepare_command_line()
    quiet_warnings()


def quiet_warnings() -> None:
    """Show dlbridge's own warnings in a line each and no others, unless Python was told which to show."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", DlbridgeWarning)
        warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **rest: Any) -> None:
    """Print a warning without the line of our own code that it came from."""
    click.echo(f"warning: {message}", err=True)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output; a number that is infinite or NaN is null."""
    _printed.append(True)
    click.echo(json.dumps(finite(value), indent=2, default=str))


def print_json_of(error: Exception) -> None:
    """Print an error as the JSON document that --json promises, unless there is one already."""
    if "--json" not in sys.argv or _printed:
        return
    if isinstance(error, DlbridgeError):
        message, where, hint = error.message, error.where, error.hint
    else:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        where = hint = None
    print_json({"error": {"type": type(error).__name__, "message": message, "where": where, "hint": hint}})


def prepare_output() -> None:
    """Let every text be printed, and no JSON document have been yet.

    Letters that the encoding of the terminal lacks are escaped: an error of printing would hide what was to be said.
    """
    _printed.clear()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def read_limits(limits: tuple[str, ...]) -> dict[str, Any]:
    """Parse ``nodes=1000000`` into the ``limits`` of ``dlbridge.load``.

    Raises:
        click.BadParameter: When a text has another form.
    """
    found = {}
    for text in limits:
        name, equals, number = text.partition("=")
        if not equals or not re.fullmatch(r"[0-9]{1,18}", number):
            raise click.BadParameter(f"'{text}' is not of the form name=number", param_hint="--limit")
        found[name] = int(number)
    return {"limits": found} if found else {}


def read_spec(path: str) -> Any:
    """The specification in a file: a training section, alone or under ``training``."""
    from dlbridge.description import document, schema
    from dlbridge.training import TrainingSpec

    found = document.read(Path(path))
    is_within = isinstance(found.data, dict) and "training" in found.data
    return schema.check(found, ("training",) if is_within else (), TrainingSpec)


def progress_bar(description: str, total: int | None = None) -> tuple[Any, Callable[[str], None]]:
    """Make a progress bar (or spinner) on standard error, and a function that advances it and shows a text."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task(description, total=total)

    def advance(text: str) -> None:
        bar.update(task, advance=1, description=f"{description}: {escape(text)}")

    return bar, advance
