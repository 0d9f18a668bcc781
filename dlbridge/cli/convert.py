"""``dlbridge convert``: a model in, source and weights of a framework out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dlbridge.cli.common import (
    force_option,
    input_option,
    json_option,
    limit_option,
    print_json,
    quiet_frameworks,
    read_options,
    trust_option,
)

TARGETS = ("pytorch", "keras", "onnx", "description")
_OPTION_OF = {"opset": "onnx", "io_layout": "keras", "memory_format": "pytorch"}


@click.command(short_help="Convert a model to PyTorch, Keras, ONNX or a description.")
@click.argument("model")
@click.option("--to", required=True, metavar="FRAMEWORK", help=f"{', '.join(TARGETS)}, or a plugged-in framework.")
@click.option("-o", "--output", help="Folder to write (for ONNX also a .onnx file). Default: NAME-FRAMEWORK.")
@click.option("--opset", type=int, help="Opset of the ONNX file.")
@click.option("--io-layout", type=click.Choice(["same", "native"]), help="Layout of Keras' inputs and outputs.")
@click.option(
    "--memory-format",
    type=click.Choice(["channels_last", "channels_last_3d"]),
    help="Memory format of PyTorch's weights of images or volumes.",
)
@click.option("--print", "print_source", is_flag=True, help="Print the source instead of writing files.")
@click.option("--partial", is_flag=True, help="Write what is not supported as functions to fill in, which raise.")
@click.option("--verify/--no-verify", "check", default=True, help="Compare the result with the original (the default).")
@input_option
@limit_option
@trust_option
@force_option
@json_option
def command(
    model: str,
    to: str,
    output: str | None,
    opset: int | None,
    io_layout: str | None,
    memory_format: str | None,
    print_source: bool,
    partial: bool,
    check: bool,
    inputs: tuple[str, ...],
    limits: tuple[str, ...],
    trust_code: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Convert MODEL: a description (.yaml, .json), a saved model's folder, .pt2, .keras, .h5 or .onnx file, or the
    name of a function that makes one (torchvision.models:resnet18)."""
    quiet_frameworks()
    from dlbridge import api
    from dlbridge.files import check_free

    options = _writer_options(to, opset=opset, io_layout=io_layout, memory_format=memory_format)
    if partial and to in ("onnx", "description"):
        raise click.UsageError("--partial is an option of --to pytorch and --to keras")
    read = read_options(inputs, limits, trust_code)
    if print_source:
        result = api.convert(model, to, None, check=False, partial=partial, read=read, **options)
        click.echo(result.text if hasattr(result, "text") else _description_text(result), nl=False)
        return
    target = Path(output) if output else None
    if target is not None:
        check_free(target, force=force)
    given: dict[str, Any] = {**read, **({"partial": True} if partial else {})}
    loaded = api.load(model, **given)
    target = target or Path(f"{loaded.name}-{to}")
    source = api.convert(loaded, to, target, check=check, force=force, partial=partial, **options)
    stand_ins = source.stand_ins if partial else {}
    written = sorted(str(p) for p in target.rglob("*") if p.is_file()) if target.is_dir() else [str(target)]
    if as_json:
        print_json({"model": loaded.name, "to": to, "output": str(target), "files": written, "stand_ins": stand_ins})
        return
    click.echo(f"{loaded.name} -> {to}: {target}")
    for name in written:
        click.echo(f"  {name}")
    for name, what in stand_ins.items():
        click.echo(f"to be filled in: {name}: {what}")


def _writer_options(to: str, **given: Any) -> dict[str, Any]:
    """The options that were given; one that means nothing for the target is an error, not ignored."""
    options = {k: v for k, v in given.items() if v is not None}
    for name in options:
        if to in TARGETS and to != _OPTION_OF[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} is an option of --to {_OPTION_OF[name]}")
    return options


def _description_text(model: Any) -> str:
    from dlbridge.description import dump

    return dump(model)
