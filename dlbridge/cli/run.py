"""``dlbridge run``: runs a deployed model on a file of inputs, with onnxruntime alone."""

from __future__ import annotations

import click

from dlbridge.cli.common import force_option, json_option, print_json, progress_bar


@click.command(short_help="Run an ONNX file or repository entry on an input file.")
@click.argument("model", type=click.Path(exists=True))
@click.argument("data", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("-o", "--output", required=True, help="File for the results: .npz, .npy, .csv or .parquet.")
@click.option("--provider", "providers", multiple=True, default=("cpu",), show_default=True, help="cpu, cuda, ...")
@click.option("--threads", type=click.IntRange(1), help="Threads for one operation [default: one a core].")
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(1), help="Rows at a time.")
@force_option
@json_option
def command(
    model: str,
    data: tuple[str, ...],
    output: str,
    providers: tuple[str, ...],
    threads: int | None,
    batch_size: int,
    force: bool,
    as_json: bool,
) -> None:
    """Run MODEL (a .onnx file or a repository entry) on DATA: a .npz, .npy, CSV or Parquet file, or images."""
    from dlbridge.files import check_free
    from dlbridge.runtime import load, run_file

    check_free(output, force=force)
    session = load(model, providers=providers, threads=threads, spinning=False)  # others may need the cores
    bar, advance = progress_bar("run")
    with bar:
        summary = run_file(session, list(data), output, batch_size=batch_size, force=force, progress=advance)
    if as_json:
        print_json(summary)
    else:
        click.echo(f"{summary['rows']} rows -> {output}")
