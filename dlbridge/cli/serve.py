"""``dlbridge serve``: a repository of models behind HTTP and gRPC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command(short_help="Serve a repository or an ONNX file over HTTP and gRPC.")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--model", "models", multiple=True, help="Serve this entry alone; may be given again.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--http-port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--grpc-port", default=8001, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--poll", type=click.FloatRange(min=0.1), help="Look for changed models every so many seconds.")
@click.option("--max-body", default=256, show_default=True, type=click.IntRange(1), help="MiB a request may have.")
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Ask for its token.")
@click.option("--tls-certificate", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="PEM file.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="PEM file.")
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Keep optimised graphs in a folder.")
@click.option("--grpc-engine", type=click.Choice(["auto", "zttp", "grpcio"]), default="auto", show_default=True)
@click.option("--on", type=click.Choice(["ray"]), help="Serve on Ray, with replicas [default: in this process].")
@click.option("--emit", metavar="FOLDER", type=click.Path(path_type=Path), help="Write Ray's config and a manifest.")
@click.option("--log-requests", is_flag=True, help="Write a line for each request.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    path: Path,
    models: tuple[str, ...],
    host: str,
    http_port: int,
    grpc_port: int,
    poll: float | None,
    max_body: int,
    token_file: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    cache: Path | None,
    grpc_engine: str,
    on: str | None,
    emit: Path | None,
    log_requests: bool,
    log_format: str,
) -> None:
    """Serve PATH, a repository of models or one .onnx file, over the Open Inference Protocol (HTTP and gRPC)."""
    from dlbridge.errors import require

    serving = require("dlbridge.serving", "serve")
    require("dlbridge.serving.logs", "serve").log_to_stderr(log_format)
    token = None if token_file is None else _token(token_file)
    settings = serving.Settings(
        host,
        http_port,
        grpc_port,
        max_body << 20,
        poll,
        token,
        tls_certificate,
        tls_key,
        models,
        log_requests,
        cache,
        grpc_engine,
    )
    if emit is not None and on is None:
        raise click.UsageError("--emit goes with --on ray")
    if on is not None:
        _on_ray(path, settings, emit)
        return

    def started(server: Any) -> None:
        scheme = "https" if tls_certificate is not None else "http"
        click.echo(f"{scheme}://{host}:{server.http_port}  grpc://{host}:{server.grpc_port}")
        _show(server.service.index())

    serving.serve(path, settings, started)


def _token(file: Path) -> str:
    """The token that a file holds.

    Raises:
        FileError: When it cannot be read.
    """
    from dlbridge.errors import FileError

    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"it holds no token: {error}", where=str(file)) from None


def _on_ray(path: Path, settings: Any, emit: Path | None) -> None:
    from dlbridge.errors import require

    if emit is not None:
        from dlbridge.serving import ray_files

        for file in ray_files.write(path, settings, emit):
            click.echo(f"  {file}")
        return
    on_ray = require("dlbridge.serving.on_ray", "scale")

    def started(rows: list[dict[str, str]]) -> None:
        click.echo(f"http://{settings.host}:{settings.http_port}  grpc://{settings.host}:{settings.grpc_port}")
        _show(rows)

    on_ray.run(path, settings, started)


def _show(rows: list[dict[str, str]]) -> None:
    for row in rows:
        click.echo(f"  {row['name']} {row['version']} {row['state']} {row['reason']}".rstrip())
