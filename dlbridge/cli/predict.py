"""``dlbridge predict``: runs a model on data in any framework, and writes its outputs to a file."""

from __future__ import annotations

import click

from dlbridge.cli.common import print_json, quiet_frameworks, read_limits, writing_options
from dlbridge.cli.options import FrameworkCommand, reading


@click.command(cls=FrameworkCommand, short_help="Write the outputs of a model for data, from any framework.")
@click.argument("model")
@click.argument("data", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--in", "framework", metavar="FRAMEWORK", help="What runs it [default: onnx, by onnxruntime].")
@click.option("-o", "--output", required=True, help="File for the outputs: .npz, .npy, .csv or .parquet.")
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(1), help="Rows at a time.")
@writing_options
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    data: tuple[str, ...],
    framework: str | None,
    output: str,
    batch_size: int,
    limits: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Run MODEL on DATA: a trained folder, or any model that can be read; a .npz, .npy, CSV or Parquet file, or
    images."""
    quiet_frameworks()
    from dlbridge import api, training

    loaded = api.load(model, **reading(ctx), **read_limits(limits))
    rows = training.predict_to_file(loaded, list(data), output, framework=framework, batch_size=batch_size, force=force)
    if as_json:
        print_json({"rows": rows, "output": output})
    else:
        click.echo(f"{rows} rows -> {output}")
