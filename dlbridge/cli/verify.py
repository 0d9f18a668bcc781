"""``dlbridge verify``: shows that a model computes the same by every route, or that several models do."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

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
    refuse,
)
from dlbridge.cli.options import FrameworkCommand, reading
from dlbridge.frameworks import all_frameworks


@click.command(cls=FrameworkCommand, short_help="Show that all frameworks and onnxruntime agree, or that models do.")
@click.argument("models", nargs=-1, metavar="[MODEL [OTHERS]...]")
@click.option(
    "--check", "checked", metavar="CERTIFICATE", help="Verify again what a certificate says; what has changed?"
)
@click.option("--batch-run", metavar="FOLDER", help="Judge what 'dlbridge run --out FOLDER' has written by MODEL.")
@click.option("--rows", default=100, show_default=True, type=click.IntRange(1), help="How many rows of --batch-run.")
@click.option("--on", type=click.Choice(["ray"]), help="Run the routes on the workers of Ray, all at once.")
@click.option("--certificate", metavar="FILE", help="Write the certificate, a JSON file.")
@click.option("--route", "routes", multiple=True, help="Only these routes (default: all).")
@click.option("--map", "names", multiple=True, metavar="NAME=OTHER", help="Which input or output of OTHERS a name is.")
@click.option(
    "--layout",
    "layouts",
    multiple=True,
    metavar="[NAME=]LAYOUT",
    help="How OTHERS have the axes of an input or output: channels_last, channels_first, or an order such as 0231.",
)
@click.option(
    "--battery",
    type=click.Choice(["full", "quick", "none"]),
    default="full",
    show_default=True,
    help="Which inputs are made: all kinds, those of a conversion, or none (with --inputs).",
)
@click.option("--inputs", metavar="FILE", help="An .npz file of inputs by name, to try as well.")
@click.option("--batch", "batch_sizes", multiple=True, type=click.IntRange(1), help="Batch sizes [default: 1, 2, 9].")
@click.option("--size", "sizes", multiple=True, metavar="NAME=SIZE", help="Size of another symbolic dimension.")
@click.option("--seed", default=0, show_default=True, help="Seed of the random inputs.")
@click.option(
    "--dtype",
    type=click.Choice(["float64", "float32", "float16", "bfloat16"]),
    help="Verify the model with its float32 as this type.",
)
@click.option("--gradients", is_flag=True, help="Compare the gradients of all frameworks that train, too.")
@click.option("--train-steps", type=click.IntRange(1), metavar="N", help="And the weights after N steps of training.")
@click.option("--rtol", type=click.FloatRange(0), help="A relative bound of your own, instead of the measured ones.")
@click.option("--atol", type=click.FloatRange(0), help="An absolute bound of your own, instead of the measured ones.")
@click.option(
    "--reproduce", metavar="FOLDER", help="Write the node where a route departs, alone, to run and to report."
)
@click.option("--html", "page_path", metavar="FILE", help="Write the report as an HTML page, too.")
@click.option("--web", metavar="FILE", help="Write a page that shows the model's graph, with the error of each node.")
@limit_option
@force_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    models: tuple[str, ...],
    checked: str | None,
    batch_run: str | None,
    rows: int,
    on: str | None,
    certificate: str | None,
    routes: tuple[str, ...],
    names: tuple[str, ...],
    layouts: tuple[str, ...],
    battery: str,
    inputs: str | None,
    batch_sizes: tuple[int, ...],
    sizes: tuple[str, ...],
    seed: int,
    dtype: str | None,
    gradients: bool,
    train_steps: int | None,
    rtol: float | None,
    atol: float | None,
    reproduce: str | None,
    page_path: str | None,
    web: str | None,
    limits: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Run MODEL in every framework that is installed, and in onnxruntime on the ONNX files that dlbridge and the
    exporters of the frameworks write; judge each against the original in float64.

    With OTHERS, run them instead, as they are: files, names of functions, entries of a repository, and folders that
    'convert' has written, whose model.py is executed.

    Exits with 1 when one departs by more than rounding explains, or cannot be run."""
    _check_together(ctx, checked, batch_run)
    quiet_frameworks()
    for framework in all_frameworks():
        framework.save_memory()
    from dlbridge.verification.measure import Tolerance
    from dlbridge.verification.others import Matching

    if checked is not None:
        _check(ctx, checked, models, as_json)
        return
    if batch_run is not None and len(models) != 1:
        raise click.UsageError("a batch run is judged by one model, the original", ctx)
    if not models:
        raise click.UsageError("name a model, or a certificate: --check", ctx)
    if battery == "none" and inputs is None:
        raise click.UsageError("--battery none needs --inputs", ctx)
    options: dict[str, Any] = {
        "routes": list(routes) or None,
        "battery": battery,
        "batch_sizes": list(batch_sizes) or None,
        "sizes": dict(_size(s) for s in sizes),
        "inputs": inputs,
        "seed": seed,
        "matching": Matching(dict(_pair(n, "--map") for n in names), dict(_layout(text) for text in layouts)),
        "dtype": dtype,
        "train_steps": train_steps if train_steps is not None or not gradients else 0,
        "tolerance": None if rtol is None and atol is None else Tolerance(rtol or 0.0, atol or 0.0),
    }
    read = {**reading(ctx), **read_limits(limits)}
    if batch_run is None:
        report = _verified(models, read, options, certificate, page_path, web, reproduce, force, on)
    else:
        report = _judged_run(models[0], read, batch_run, rows, seed, certificate, page_path, force)
    if reproduce is not None:
        _reproduce(report, reproduce, force)
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)
    if not report.passed:
        ctx.exit(EXPLAINED)


#: What ``--check`` takes; all other options are of a new verification.
_OF_A_CHECK = ("models", "checked", "as_json")
#: What ``--batch-run`` does not take.
_OF_ROUTES = (
    *("on", "routes", "names", "layouts", "battery", "inputs", "batch_sizes", "sizes", "dtype", "gradients"),
    *("train_steps", "rtol", "atol", "reproduce", "web"),
)


def _check_together(ctx: click.Context, checked: str | None, batch_run: str | None) -> None:
    """Refuse options that would do nothing beside others."""
    if checked is not None:
        others = [param.name or "" for param in ctx.command.get_params(ctx) if param.name not in _OF_A_CHECK]
        refuse(ctx, others, "is of a new verification; --check repeats the one of the certificate")
    elif batch_run is not None:
        refuse(ctx, _OF_ROUTES, "is of a verification of routes; --batch-run reads what was written")
    else:
        refuse(ctx, ("rows",), "is of --batch-run")


def _verified(
    models: tuple[str, ...],
    read: dict[str, Any],
    options: dict[str, Any],
    certificate: str | None,
    page: str | None,
    web: str | None,
    reproduce: str | None,
    force: bool,
    on: str | None,
) -> Any:
    """Run the verification, and write its certificate and its pages if they were asked for."""
    from dlbridge import api
    from dlbridge.errors import require
    from dlbridge.verification.departures.redrawn import explain
    from dlbridge.verification.routes import usual

    _check_free(certificate, page, web, reproduce, force=force)
    loaded = api.load(models[0], **read)
    bar, advance = progress_bar("verify", total=len(models[1:] or options["routes"] or usual(loaded)) + 2)
    elsewhere: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if on is not None:
        elsewhere = require("dlbridge.verification.on_ray", "scale").spread(partial(api.load, models[0], **read))
    with bar, elsewhere as spread:
        more = {"progress": advance, "by_node": page is not None or web is not None, "spread": spread}
        report = api.verify(loaded, *models[1:], read=read, **more, **options)
    explain(report, models[0], models[1:], read)
    if certificate is not None:
        _write(certificate, api.certificate(report, models[0], models[1:], read, options), force)
    if page is not None:
        _write_page(page, report, loaded, force)
    if web is not None:
        from dlbridge import web as pages

        pages.save(loaded, web, errors=report.depth, force=force)
    return report


def _judged_run(
    model: str,
    read: dict[str, Any],
    folder: str,
    rows: int,
    seed: int,
    certificate: str | None,
    page: str | None,
    force: bool,
) -> Any:
    """Judge rows that a batch run has written, and write the certificate and the page if they were asked for."""
    from dlbridge import api
    from dlbridge.verification.batch_runs import verify_run
    from dlbridge.verification.certificate import certify, dumps

    _check_free(certificate, page, force=force)
    loaded = api.load(model, **read)
    bar, advance = progress_bar("verify", total=2)
    with bar:
        report = verify_run(loaded, folder, rows=rows, seed=seed, progress=advance)
    if certificate is not None:
        _write(certificate, dumps(certify(report)), force)
    if page is not None:
        _write_page(page, report, loaded, force)
    return report


def _check_free(*targets: str | None, force: bool) -> None:
    from dlbridge.files import check_free

    for target in targets:
        if target is not None:
            check_free(target, force=force)


def _write(target: str, text: str, force: bool) -> None:
    from dlbridge.files import writing

    with writing(target, force=force) as fresh:
        fresh.write_text(text, encoding="utf-8")


def _write_page(target: str, report: Any, model: Any, force: bool) -> None:
    from dlbridge.verification.pages.page import html

    _write(target, html(report, model), force)


def _reproduce(report: Any, folder: str, force: bool) -> None:
    """Write the departing node of each route, and say where."""
    from dlbridge.verification.departures.reproduction import write

    for name, departure in report.departures.items():
        written = write(departure, name, Path(folder), force=force)
        if written is not None:
            click.echo(f"{name}: python {written / 'node.py'}", err=True)


def _check(ctx: click.Context, path: str, models: tuple[str, ...], as_json: bool) -> None:
    """Verify again what a certificate says, and print what has changed."""
    from dlbridge import api

    found, changed = api.check(path, *models)
    if as_json:
        print_json({"passed": found.passed, "changes": changed, "certificate": found.model_dump(mode="json")})
    else:
        verdict = "agrees" if found.passed else "departs"
        click.echo(f"{found.model}: {verdict}; {'changed:' if changed else 'nothing has changed'}")
        for text in changed:
            click.echo(f"  {text}")
    if not found.passed:
        ctx.exit(EXPLAINED)


def _print(report: Any) -> None:
    from rich.console import Console

    from dlbridge.verification.pages.table import coverage_lines, table

    console = Console()
    console.print(table(report))
    for check in report.training:
        verdict = "agrees" if check.passed else "departs"
        console.print(f"training in {check.framework}: {verdict}: {check.reason}", markup=False)
    if report.pairs:
        console.print(f"largest difference between two routes: {report.largest_difference:.1e}")
    for line in coverage_lines(report):
        console.print(line, markup=False)
    if report.hint is not None:
        console.print(report.hint, markup=False)


def _size(text: str) -> tuple[str, int]:
    name, equals, size = text.partition("=")
    if not equals or not size.isdigit():
        raise click.BadParameter(f"'{text}' is not of the form name=size", param_hint="--size")
    return name, int(size)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, other = text.partition("=")
    if not equals or not name or not other:
        raise click.BadParameter(f"'{text}' is not of the form name=other", param_hint=option)
    return name, other


def _layout(text: str) -> tuple[str, str | tuple[int, ...]]:
    """``x=0231``, or ``channels_last`` for all that have three axes or more."""
    name, said = _pair(text, "--layout") if "=" in text else ("", text)
    return name, tuple(int(digit) for digit in said) if said.isdigit() else said
