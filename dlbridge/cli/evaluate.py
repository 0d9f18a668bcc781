"""``dlbridge evaluate``: measures a model on data, by the losses and metrics of training."""

from __future__ import annotations

from typing import Any

import click

from dlbridge.cli.common import (
    json_option,
    limit_option,
    print_json,
    quiet_frameworks,
    read_limits,
    read_spec,
    spec_option,
)
from dlbridge.cli.options import FrameworkCommand, reading


@click.command(cls=FrameworkCommand, short_help="Measure a model on data: loss and metrics.")
@click.argument("model")
@click.option("--in", "framework", metavar="FRAMEWORK", help="What runs it [default: onnx, by onnxruntime].")
@click.option("--data", required=True, type=click.Path(exists=True), help="What dlbridge train takes.")
@spec_option("What to measure")
@click.option(
    "--loss",
    metavar="LOSS",
    help="Measure this loss, without a specification: MeanSquaredError, '{op: BinaryCrossentropy, from_logits: true}'.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="METRIC",
    help="Measure this one: accuracy, '{kind: top_k, k: 3}', ...",
)
@click.option("--batch-size", type=click.IntRange(1), help="Rows at a time [default: as in training].")
@limit_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    data: str,
    spec: str | None,
    loss: str | None,
    metrics: tuple[str, ...],
    limits: tuple[str, ...],
    as_json: bool,
    **running: Any,
) -> None:
    """Measure MODEL on --data: a trained folder, or any model that can be read. All rows are measured, by the same
    definitions in every framework."""
    quiet_frameworks()
    from dlbridge import api, training

    given = read_spec(spec) if spec is not None else None
    loaded = api.load(model, **reading(ctx), **read_limits(limits))
    how = _asked(given or loaded.training, loss, metrics)
    found = training.evaluate(loaded, data, spec=how, **running)
    if as_json:
        print_json(found)
        return
    for name, number in found.items():
        click.echo(f"{name}: {number:.6g}")


def _asked(spec: Any, loss: str | None, metrics: tuple[str, ...]) -> Any:
    """The specification with the loss and the metrics that were asked for in place of its own."""
    from dlbridge.errors import TrainingError
    from dlbridge.training.preparation import of_settings

    changed: dict[str, Any] = spec.model_dump(exclude_unset=True) if spec is not None else {}
    if loss is not None:
        part = _part(loss, "--loss")
        part = {"op": part} if isinstance(part, str) else part
        changed = {"loss": part, "batch_size": changed.get("batch_size", 32)}
    if metrics:
        changed["metrics"] = [_part(metric, "--metric") for metric in metrics]
    if "loss" not in changed:
        if metrics:
            raise TrainingError("nothing says how the outputs are compared with the target", hint="say --loss")
        return None
    return of_settings(changed)


def _part(text: str, option: str) -> Any:
    """A part of a specification: its name, or its settings as YAML."""
    from dlbridge.description import document

    return document.parse(text, option, is_description=False).data if text.lstrip().startswith("{") else text
