"""``dlbridge bench``: measures requests a second and latency of a server, beside the model alone in a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dlbridge.cli.common import json_option, print_json


@click.command(short_help="Put a load on a served model.")
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--concurrency", default=16, show_default=True, type=click.IntRange(1), help="Clients at once.")
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(min=0.1), help="How long.")
@click.option("--rows", default=1, show_default=True, type=click.IntRange(1), help="Rows of a request.")
@json_option
def command(model: Path, concurrency: int, seconds: float, rows: int, as_json: bool) -> None:
    """Serve MODEL (an entry of a repository, or a .onnx file) on this machine and ask it with many clients at once.

    Prints requests a second, latencies, and the ratio to the same session in a loop without a server.
    """
    import asyncio

    from dlbridge.errors import DlbridgeError, require
    from dlbridge.runtime import load as load_session

    load = require("dlbridge.serving.load", "serve")
    model = model.resolve()
    session = load_session(model, threads=1)
    arrays = load.sample(session.signature, rows)
    alone = load.in_process(session, arrays, min(seconds, 3.0))
    process, port = load.start(model)
    try:
        message = load.request(model.name if model.is_dir() else model.stem, arrays)
        asyncio.run(load.apply("127.0.0.1", port, message, concurrency, min(seconds, 1.0)))
        found: Any = asyncio.run(load.apply("127.0.0.1", port, message, concurrency, seconds))
    finally:
        process.terminate()
        process.communicate()
    if not found.latencies:
        raise DlbridgeError(f"no request was answered: {found.failure}", where=str(model))
    figures = {
        "requests_per_second": found.throughput,
        "p50_ms": 1000 * found.percentile(50),
        "p99_ms": 1000 * found.percentile(99),
        "failures": found.failures,
        "in_process_per_second": alone,
        "ratio": found.throughput / alone,
    }
    if as_json:
        print_json(figures)
        return
    click.echo(f"{concurrency} clients, {found.seconds:.1f} s, {rows} row(s) a request")
    click.echo(f"  requests/s   {found.throughput:10.0f}   ({found.failures} failed)")
    click.echo(f"  p50, p99     {figures['p50_ms']:10.2f} ms, {figures['p99_ms']:.2f} ms")
    click.echo(f"  in-process   {alone:10.0f} /s, ratio {figures['ratio']:.2f}")
