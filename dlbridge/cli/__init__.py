"""The ``dlbridge`` command: one file for each subcommand. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import importlib
import sys

import click

from dlbridge import __version__
from dlbridge.cli.common import fail, prepare_output, print_json_of, quiet_warnings
from dlbridge.frameworks import names

COMMANDS = (
    "convert",
    "train",
    "evaluate",
    "predict",
    "verify",
    "run",
    "generate",
    "serve",
    "bench",
    "inspect",
    "frameworks",
    "doctor",
    "schema",
)


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"dlbridge.cli.{cmd_name}").command
        return command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from dlbridge.cli.convert import command
        from dlbridge.cli.options import spellings

        with formatter.section("Frameworks, and their options (dlbridge convert --help explains them)"):
            formatter.write_dl([(name, " ".join(spellings(command, ctx, name))) for name in names()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dlbridge")
def cli() -> None:
    """Convert deep-learning models between frameworks and ONNX; train, verify and serve them."""


def main() -> None:
    """Run the command. An error becomes one message on standard error and a non-zero exit code."""
    prepare_output()
    quiet_warnings()
    try:
        if code := cli.main(standalone_mode=False):
            sys.exit(code)
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        print_json_of(error)
        sys.exit(error.exit_code)
    except Exception as error:
        code = fail(error)
        print_json_of(error)
        sys.exit(code)
