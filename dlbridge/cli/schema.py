"""``dlbridge schema``: prints the JSON Schema of descriptions or certificates, for editors and validators."""

from __future__ import annotations

import click

from dlbridge.cli.common import print_json


@click.command(short_help="Print the JSON Schema of descriptions or certificates.")
@click.argument("what", type=click.Choice(["description", "certificate"]), default="description")
def command(what: str) -> None:
    """Print the JSON Schema of descriptions (the default) or of certificates. Editors use it to complete and check YAML
    and JSON."""
    if what == "certificate":
        from dlbridge.verification.certificate import json_schema as of_certificates

        print_json(of_certificates())
        return
    from dlbridge.description.schema import json_schema

    print_json(json_schema())
