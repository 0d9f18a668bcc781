"""``dlbridge verify``: runs a model by every route on the same inputs, and compares each with the judge."""

from __future__ import annotations

import click

from dlbridge.cli.common import (
    EXPLAINED,
    force_option,
    json_option,
    limit_option,
    print_json,
    progress_bar,
    quiet_frameworks,
    read_limits,
)
from dlbridge.cli.options import FrameworkCommand, reading


@click.command(cls=FrameworkCommand, short_help="Show that all frameworks and onnxruntime agree.")
@click.argument("model")
@click.option("--route", "routes", multiple=True, help="Only these routes (default: all).")
@click.option("--batch", "batch_sizes", multiple=True, type=click.IntRange(1), help="Batch sizes [default: 1, 2, 9].")
@click.option("--size", "sizes", multiple=True, metavar="NAME=SIZE", help="Size of another symbolic dimension.")
@click.option("--seed", default=0, show_default=True, help="Seed of the random inputs.")
@click.option("--html", "page_path", metavar="FILE", help="Write the report as an HTML page, too.")
@limit_option
@force_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    routes: tuple[str, ...],
    batch_sizes: tuple[int, ...],
    sizes: tuple[str, ...],
    seed: int,
    page_path: str | None,
    limits: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Run MODEL in every framework that is installed, and in onnxruntime on the ONNX files that dlbridge and the
    exporters of the frameworks write; judge each against the original in float64. Exits with 1 when a route departs by
    more than rounding explains."""
    quiet_frameworks()
    from dlbridge import api
    from dlbridge.files import check_free, writing
    from dlbridge.verification.routes import known

    if page_path is not None:
        check_free(page_path, force=force)
    loaded = api.load(model, **reading(ctx), **read_limits(limits))
    bar, advance = progress_bar("verify", total=len(routes or known(loaded)) + 2)
    with bar:
        report = api.verify(
            loaded,
            routes=list(routes) or None,
            batch_sizes=batch_sizes or None,
            sizes=dict(_size(s) for s in sizes),
            seed=seed,
            progress=advance,
        )
    if page_path is not None:
        from dlbridge.verification.page import html

        with writing(page_path, force=force) as fresh:
            fresh.write_text(html(report, loaded), encoding="utf-8")
    if as_json:
        print_json(report.to_json())
    else:
        from rich.console import Console

        from dlbridge.verification.table import coverage_lines, table

        console = Console()
        console.print(table(report))
        console.print(f"largest difference between two routes: {report.largest_difference:.1e}")
        for line in coverage_lines(report):
            console.print(line, markup=False)
    if not report.passed:
        ctx.exit(EXPLAINED)


def _size(text: str) -> tuple[str, int]:
    name, equals, size = text.partition("=")
    if not equals or not size.isdigit():
        raise click.BadParameter(f"'{text}' is not of the form name=size", param_hint="--size")
    return name, int(size)
