"""``dlbridge convert``: writes a model as source and weights of a framework."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click

from dlbridge import frameworks, precision
from dlbridge.cli.common import print_json, quiet_frameworks, read_limits, refuse, writing_options
from dlbridge.cli.options import ConvertingCommand, reading, writing


@click.command(cls=ConvertingCommand, short_help="Convert a model to a framework, ONNX or a description.")
@click.argument("model")
@click.option("--to", required=True, metavar="FRAMEWORK", help="A framework (see below), or 'description'.")
@click.option(
    "-o", "--output", help="Folder to write, or a file: .onnx, .keras, .pt2, .tflite. Default: NAME-FRAMEWORK."
)
@click.option("--into", metavar="REPO", help="A repository of served models: write its next version there (ONNX).")
@click.option("--processing", "processing_file", metavar="FILE", help="Put what FILE says before and after it (ONNX).")
@click.option("--dtype", type=click.Choice(precision.DTYPES), help="What it computes in, where that will do (ONNX).")
@click.option("--quantize", type=click.Choice(precision.QUANTIZED), help="What its weights become (ONNX).")
@click.option("--calibrate", metavar="FILE", help="Data for --quantize int8-static, and to measure what is lost on.")
@click.option("--keep-float32", multiple=True, metavar="NAME", help="A node or block that keeps its precision.")
@click.option("--print", "print_source", is_flag=True, help="Print the source instead of writing files.")
@click.option("--verify/--no-verify", "check", default=True, help="Compare the result with the original (the default).")
@click.option("--dump-after", metavar="PASS", help="Also write the model as it is after a pass, to PASS.onnx.")
@writing_options
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    to: str,
    output: str | None,
    into: str | None,
    processing_file: str | None,
    dtype: str | None,
    quantize: str | None,
    calibrate: str | None,
    keep_float32: tuple[str, ...],
    print_source: bool,
    check: bool,
    dump_after: str | None,
    limits: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Convert MODEL: a description (.yaml, .json), the folder of a saved model or of one of Hugging Face, a file of a
    framework, or the name of a function or class that makes one (torchvision.models:resnet18, mynet:Net)."""
    quiet_frameworks()
    from dlbridge import api
    from dlbridge.files import check_free, default_folder

    if print_source:
        refuse(ctx, ("output", "into", "force"), "does nothing beside --print, which writes no files")
    if to != api.DESCRIPTION:
        frameworks.get(to)
    if into is not None:
        api.check_served(to)
    options, read = writing(ctx, to), {**reading(ctx), **read_limits(limits)}
    partial = options.pop("partial", False)
    options["processing"] = _processing(processing_file)
    options |= {"dtype": dtype, "quantize": quantize, "calibrate": calibrate, "keep_float32": keep_float32}
    read.pop("partial", None)
    task = read.pop("task", None)
    dumping = _dumping(dump_after, force)
    if print_source:
        with dumping:
            result = api.convert(model, to, None, check=False, partial=partial, read=read, task=task, **options)
        text = "".join(map(_text, result.values() if isinstance(result, dict) else [result]))
        if as_json:
            print_json({"model": model, "to": to, "source": text})
        else:
            click.echo(text, nl=False)
        return
    target = Path(output) if output is not None else None
    if target is not None:
        check_free(target, force=force)
    options = {"check": check, "force": force, "partial": partial, "into": into, **options}
    name = _name(model)
    place: Any = target
    if target is None and into is None:
        place = api.BY_NAME if task is None else default_folder(name, to)
    earlier = _files(into)
    with dumping:
        source = api.convert(model, to, place, read=read, task=task, **options)
    if task is None:
        name = source.name if to == api.DESCRIPTION else source.model.name
    if place is api.BY_NAME:
        place = default_folder(name, to)
    target = place or Path(str(into)) / source.model.name
    written = sorted({*_files(place), *_files(into)} - set(earlier))
    stand_ins = source.stand_ins if partial and task is None else {}
    loss = getattr(source, "loss", None)
    if as_json:
        found = {"model": name, "to": to, "output": str(target), "files": written, "stand_ins": stand_ins}
        print_json(found if loss is None else {**found, "loss": loss.model_dump()})
        return
    click.echo(f"{name} -> {to}: {target}")
    for name in written:
        click.echo(f"  {name}")
    if loss is not None:
        click.echo(loss.summary)
    for name, what in stand_ins.items():
        click.echo(f"to be filled in: {name}: {what}")


def _name(model: str) -> str:
    """What a model is called before it is read: the last part of its name, or its file or folder without the suffix."""
    from dlbridge import loading

    if loading.is_name(model):
        return model.rpartition(":")[2].rpartition(".")[2]
    path = Path(model).resolve()
    return path.name if path.is_dir() else path.stem


def _files(place: str | Path | None) -> list[str]:
    """The files that are in a folder, or the file itself."""
    if place is None or not Path(place).exists():
        return []
    return [str(path) for path in (Path(place), *Path(place).rglob("*")) if path.is_file()]


def _processing(file: str | None) -> Any:
    if file is None:
        return None
    from dlbridge.processing import load

    return load(file)


def _dumping(name: str | None, force: bool) -> AbstractContextManager[None]:
    """Writes the model as it is after the pass ``name``, where one is named, while it is converted."""
    if name is None:
        return nullcontext()
    from dlbridge.files import check_free
    from dlbridge.passes.pipeline import dump_after

    return dump_after(name, check_free(f"{name}.onnx", force=force))


def _text(result: Any) -> str:
    """The source of what was written, or the text of a description."""
    if hasattr(result, "text"):
        return str(result.text)
    from dlbridge.description import dump

    return dump(result)
