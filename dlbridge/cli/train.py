"""``dlbridge train``: trains a description in a framework; the result is the same in all of them."""

from __future__ import annotations

from pathlib import Path

import click

from dlbridge import frameworks
from dlbridge.cli.common import force_option, json_option, limit_option, print_json, quiet_frameworks, read_limits


@click.command(short_help="Train a model in a framework.")
@click.argument("model", type=click.Path(exists=True))
@click.option("--in", "framework", metavar="FRAMEWORK", help="What trains [default: the first that is installed].")
@click.option("--data", required=True, type=click.Path(exists=True, dir_okay=False), help=".npz, CSV or Parquet file.")
@click.option("-o", "--output", type=click.Path(), help="Folder to write. Default: NAME-trained.")
@click.option("--epochs", type=click.IntRange(1), help="Instead of the description's.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint that an interrupted training left in --output.")
@click.option("--plot/--no-plot", default=True, help="Draw the history (the default).")
@limit_option
@force_option
@json_option
def command(
    model: str,
    framework: str | None,
    data: str,
    output: str | None,
    epochs: int | None,
    resume: bool,
    plot: bool,
    limits: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Train MODEL, a description or saved model with a training section, on --data.

    The output folder holds the trained model, its best weights, history.json and history.png. A checkpoint is
    written after every epoch: whatever stops the training, --resume goes on from there, in any framework. What
    --force replaces stays until the new training is done."""
    quiet_frameworks()
    from dlbridge import api, training
    from dlbridge.errors import TrainingError

    loaded = api.load(model, **read_limits(limits))
    if loaded.training is None:
        raise TrainingError("the model has no training section", where=model, hint="see examples/mlp_784.yaml")
    framework = framework or frameworks.default_trainer()
    target = Path(output or f"{loaded.name}-trained")
    spec = loaded.training if epochs is None else loaded.training.model_copy(update={"epochs": epochs})
    result = training.train_to_folder(
        loaded, data, target, framework=framework, spec=spec, resume=resume, plot=plot, force=force, quiet=as_json
    )
    if as_json:
        print_json({"output": str(target), "interrupted": result.interrupted, "history": result.history})
    elif result.interrupted and not result.checkpoint.epoch:
        click.echo("stopped before the first epoch was done; nothing is written")
    elif result.interrupted:
        click.echo(f"stopped after {result.checkpoint.epoch} epochs, which are in {target}: go on with --resume")
    else:
        click.echo(f"trained in {framework}: {target}")
    if result.interrupted:
        raise click.exceptions.Exit(130)
