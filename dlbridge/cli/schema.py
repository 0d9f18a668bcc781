"""``dlbridge schema``: prints the JSON Schema of descriptions, for editors and validators."""

from __future__ import annotations

import click

from dlbridge.cli.common import print_json


@click.command(short_help="Print the JSON Schema of descriptions.")
def command() -> None:
    """Print the JSON Schema of descriptions. Editors use it to complete and check YAML and JSON."""
    from dlbridge.description.schema import json_schema

    print_json(json_schema())
