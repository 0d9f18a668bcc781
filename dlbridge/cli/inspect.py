"""``dlbridge inspect``: what is in a model."""

from __future__ import annotations

import click

from dlbridge.cli.common import (
    force_option,
    input_option,
    json_option,
    print_json,
    quiet_frameworks,
    read_options,
    trust_option,
)


@click.command(short_help="Show a model's layers, shapes, parameters and costs; draw it.")
@click.argument("model")
@click.option("--picture", type=click.Path(dir_okay=False), help="Draw the model into this SVG file.")
@input_option
@trust_option
@force_option
@json_option
def command(
    model: str, picture: str | None, inputs: tuple[str, ...], trust_code: bool, force: bool, as_json: bool
) -> None:
    """Show what is in MODEL, layer by layer. Multiply-accumulates are for one sample."""
    quiet_frameworks()
    from dlbridge import api
    from dlbridge.summary import summarize

    loaded = api.load(model, **read_options(inputs, trust_code))
    summary = summarize(loaded)
    if picture:
        from dlbridge import picture as drawing

        drawing.save(loaded, picture, force=force)
    if as_json:
        print_json(summary.to_json())
        return
    from rich.console import Console
    from rich.table import Table

    rows = Table(title=summary.name, title_justify="left", caption_justify="left")
    for column in ("layer", "op", "output", "dtype"):
        rows.add_column(column, overflow="fold")
    for column in ("parameters", "MACs"):
        rows.add_column(column, justify="right")
    for row in summary.rows:
        rows.add_row(row.name, row.op, row.shape, row.dtype, _number(row.parameters), _number(row.macs))
    rows.caption = (
        f"{summary.parameters:,} parameters, {summary.buffers:,} buffer elements, {summary.bytes / 1e6:.1f} MB; "
        f"{summary.macs:,} MACs"
    )
    console = Console()
    console.print(f"in:  {', '.join(summary.inputs)}\nout: {', '.join(summary.outputs)}", markup=False)
    console.print(rows)
    if picture:
        console.print(f"picture: {picture}")


def _number(value: int) -> str:
    return f"{value:,}" if value else ""
