"""Run benchmarks by name (default: all) and print their tables."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
from rich.console import Console
from rich.table import Table

import bench
from bench.cases import failures

_HELPERS = ("cases", "timing")
#: What is run only where it is named: it takes as long as all others.
_NAMED = ("precision",)
NAMES = [m.name for m in pkgutil.iter_modules(bench.__path__) if not m.name.startswith("_") and m.name not in _HELPERS]


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(names: tuple[str, ...], as_json: bool) -> None:
    """Run the benchmarks NAMES. Ends with 1 where a case fails."""
    found, failed, console = {}, [], Console()
    for name in names or [name for name in NAMES if name not in _NAMED]:
        module = importlib.import_module(f"bench.{name}")
        found[name] = rows = module.run()
        failed += [f"{name}, {why}" for why in failures(rows)]
        if not as_json:
            console.print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}", soft_wrap=True)
            console.print(_table(rows))
    if as_json:
        json.dump(found, sys.stdout, indent=2)
    if failed:
        print("failed:", *failed, sep="\n  ", file=sys.stderr)
        sys.exit(1)


def _table(rows: list[dict[str, object]]) -> Table:
    table = Table()
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    return table


def _text(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


main()
