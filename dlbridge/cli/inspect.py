"""``dlbridge inspect``: shows the layers, shapes, parameters and costs of a model."""

from __future__ import annotations

from typing import Any

import click

from dlbridge.cli.common import print_json, quiet_frameworks, read_limits, writing_options
from dlbridge.cli.options import FrameworkCommand, reading


@click.command(cls=FrameworkCommand, short_help="Show a model's layers, shapes, parameters and costs; draw it.")
@click.argument("model")
@click.option("--picture", type=click.Path(dir_okay=False), help="Draw the model into this SVG file.")
@click.option(
    "--web", type=click.Path(dir_okay=False), help="Write a page to look at: the graph, and the code it becomes."
)
@click.option("--coverage", is_flag=True, help="Say what of it is supported: read, and written in each framework.")
@writing_options
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    picture: str | None,
    web: str | None,
    coverage: bool,
    limits: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Show what is in MODEL, layer by layer. Multiply-accumulates are for one sample."""
    quiet_frameworks()
    from dlbridge import api
    from dlbridge.summary import summarize

    read = {**reading(ctx), **read_limits(limits)}
    if coverage:
        _print_coverage(model, read, as_json)
        return
    loaded = api.load(model, **read)
    summary = summarize(loaded)
    if picture:
        from dlbridge import picture as drawing

        drawing.save(loaded, picture, force=force)
    if web:
        from dlbridge import web as pages

        pages.save(loaded, web, force=force)
    if as_json:
        print_json(summary.to_json())
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = Table(
        title=escape(summary.name), title_justify="left", caption_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    rows.add_column("layer", overflow="fold")
    for column in ("op", "output"):
        rows.add_column(column, no_wrap=True)
    for column in ("params", "MACs"):
        rows.add_column(column, justify="right", no_wrap=True)
    for row in summary.rows:
        cells = (row.name, row.op, f"{row.dtype}{row.shape}", _number(row.parameters), _number(row.macs))
        rows.add_row(*(escape(cell) for cell in cells))
    rows.caption = (
        f"{summary.parameters:,} parameters, {summary.buffers:,} buffer elements, {summary.bytes / 1e6:.1f} MB; "
        f"{summary.macs:,} MACs"
    )
    console = Console()
    console.print(f"in:  {', '.join(summary.inputs)}\nout: {', '.join(summary.outputs)}", markup=False)
    console.print(rows)
    if picture:
        console.print(f"picture: {picture}", markup=False)
    if web:
        console.print(f"page: {web}", markup=False)


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def _print_coverage(model: str, read: dict[str, Any], as_json: bool) -> None:
    """Print what of a model is supported."""
    from dlbridge.coverage import report

    found = report(model, **read)
    if as_json:
        print_json(found.to_json())
        return
    click.echo(f"{found.model}: {sum(found.ops.values())} nodes of {len(found.ops)} ops")
    for what, support in (("read", found.reading), *((f"to {name}", each) for name, each in found.targets.items())):
        click.echo(f"{what}: {'all of it' if support.supported else support.reason or 'in part'}")
        for refused in support.refused:
            click.echo(f"  {refused}")
