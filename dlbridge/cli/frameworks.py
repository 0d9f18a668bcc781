"""``dlbridge frameworks``: lists the frameworks, built in and plugged in, and what each can do."""

from __future__ import annotations

from typing import Any

import click

from dlbridge.cli.common import json_option, print_json
from dlbridge.frameworks import Framework, all_frameworks, declared


@click.command(short_help="List the frameworks, plug-ins too, and what each can do.")
@json_option
def command(as_json: bool) -> None:
    """List the frameworks, built in and plugged in: whether each is installed, what it reads, whether it trains, and by
    which exporter its users write ONNX files."""
    rows = [_row(framework) for framework in all_frameworks()]
    if as_json:
        print_json(rows)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("framework", "installed", "reads", "trains", "exporter"):
        table.add_column(column)
    for row in rows:
        installed = "yes" if row["installed"] else row["install"] or "no"
        trains = "yes" if row["trains"] else ""
        table.add_row(*(escape(cell) for cell in (row["name"], installed, _reads(row), trains, row["exporter"] or "")))
    Console().print(table)


def _row(framework: Framework) -> dict[str, Any]:
    return {
        "name": framework.name,
        "installed": framework.is_installed,
        "install": f"pip install 'dlbridge[{framework.extra}]'" if framework.extra else None,
        "reads": framework.reads,
        "suffixes": list(framework.suffixes),
        "trains": framework.trains is not None,
        "exporter": framework.exporter,
        "read_options": [option.name for option in declared(framework.ReadOptions)],
        "write_options": [option.name for option in declared(framework.WriteOptions)],
    }


def _reads(row: dict[str, Any]) -> str:
    return " ".join(row["suffixes"]) or ("yes" if row["reads"] else "")
