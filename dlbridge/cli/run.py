"""``dlbridge run``: runs a deployed model on files of inputs, with onnxruntime alone."""

from __future__ import annotations

from typing import Any

import click

from dlbridge.cli.common import force_option, json_option, print_json, progress_bar, refuse, running_options


@click.command(short_help="Run an ONNX file or repository entry on a file, or on many.")
@click.argument("model", type=click.Path(exists=True))
@click.argument("data", nargs=-1, type=click.Path(exists=True))
@click.option("-o", "--output", help="File for the results: .npz, .npy, .csv or .parquet.")
@click.option("--data", "many", multiple=True, metavar="PATTERN", help="Parquet files or folders, e.g. 'in/*.parquet'.")
@click.option("--out", metavar="FOLDER", help="Folder for the results of --data. A run that was stopped goes on there.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Carry this column [default: all that are not inputs].")
@click.option("--strict", is_flag=True, help="End at the first bad row of --data, in place of rejecting it.")
@click.option("--on", metavar="ENGINE", help="Run --data on 'ray' [default: in this process].")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="How many workers, with --on.")
@running_options
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(1), help="Rows at a time.")
@force_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    data: tuple[str, ...],
    output: str | None,
    many: tuple[str, ...],
    out: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Run MODEL (a .onnx file or a repository entry).

    On DATA, a .npz, .npy, CSV or Parquet file, or images, into the file --output. Or on whatever is in --data, row by
    row, into the folder --out: Parquet files or folders of images of any size.
    """
    if many or out:
        if data or output or not many or not out:
            raise click.UsageError("--data and --out belong together, and take the place of DATA and --output")
        _run_many(model, many, out, as_json, **options)
        return
    if not data or output is None:
        raise click.UsageError("give DATA and --output, or --data and --out")
    refuse(ctx, ("keep", "strict", "on", "workers"), "goes with --data and --out")
    _run_one(model, data, output, as_json, **options)


def _run_one(
    model: str,
    data: tuple[str, ...],
    output: str,
    as_json: bool,
    *,
    providers: tuple[str, ...],
    threads: int | None,
    batch_size: int,
    force: bool,
    **_: Any,
) -> None:
    from dlbridge.files import check_free
    from dlbridge.runtime import load, run_file

    check_free(output, force=force)
    session = load(model, providers=providers, threads=threads, rows=batch_size)
    bar, advance = progress_bar("run")
    with bar:
        summary = run_file(session, list(data), output, batch_size=batch_size, force=force, progress=advance)
    if as_json:
        print_json(summary)
    else:
        click.echo(f"{summary['rows']} rows -> {output}")


def _run_many(
    model: str, data: tuple[str, ...], out: str, as_json: bool, *, keep: tuple[str, ...], **options: Any
) -> None:
    from dataclasses import asdict

    from dlbridge import batch

    bar, advance = progress_bar("run")
    with bar:
        summary = batch.run(
            model,
            data,
            out,
            keep=keep or None,
            progress=lambda done, total: advance(f"{done:,} of {total:,} rows"),
            **options,
        )
    if as_json:
        print_json(asdict(summary))
        return
    earlier = f" ({summary.found} of {summary.parts} parts by an earlier run)" if summary.found else ""
    click.echo(f"{summary.rows:,} rows -> {out}{earlier}")
    if summary.rejected:
        click.echo(f"{summary.rejected:,} rows could not be run: {out}/rejected", err=True)
