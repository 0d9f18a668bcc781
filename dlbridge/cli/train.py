"""``dlbridge train``: trains a model in a framework; the result is the same in all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dlbridge import frameworks
from dlbridge.cli.common import (
    print_json,
    quiet_frameworks,
    read_limits,
    read_spec,
    refuse,
    spec_option,
    writing_options,
)
from dlbridge.cli.options import FrameworkCommand, reading


@click.command(cls=FrameworkCommand, short_help="Train a model in a framework.")
@click.argument("model")
@click.option("--in", "framework", metavar="FRAMEWORK", help="What trains [default: the first that is installed].")
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True),
    help=".npz, CSV or Parquet file, or a folder of images with one folder for each class.",
)
@click.option("--validation", type=click.Path(exists=True), help="Data of its own to validate on.")
@spec_option("How to train")
@click.option("-o", "--output", type=click.Path(), help="Folder to write. Default: NAME-trained.")
@click.option("--epochs", type=click.IntRange(1), help="Instead of the description's.")
@click.option(
    "--resume",
    metavar="[CHECKPOINT]",
    is_flag=False,
    flag_value="",
    help="Go on from the checkpoint that an interrupted training left in --output, or from that of another training.",
)
@click.option("--emit", metavar="FOLDER", help="Write the training as a script of the framework, and do not train.")
@click.option("--device", help="Where it is trained: cpu, cuda, cuda:1 [default: the framework's choice].")
@click.option("--compile", "compiles", is_flag=True, help="Let the framework compile the model.")
@click.option(
    "--data-workers", type=click.IntRange(0), default=0, help="Threads that read data and change images ahead."
)
@click.option("--loss", "own_loss", metavar="NAME", help="The function of a loss {op: Own}: mylosses:focal.")
@click.option("--on", type=click.Choice(["ray"]), help="Train in --workers processes on Ray.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="How many processes, with --on.")
@click.option("--tensorboard", metavar="FOLDER", help="Write the numbers as TensorBoard reads them.")
@click.option("--plot/--no-plot", default=True, help="Draw the history (the default).")
@writing_options
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    framework: str | None,
    data: str,
    validation: str | None,
    spec: str | None,
    output: str | None,
    epochs: int | None,
    resume: str | None,
    emit: str | None,
    device: str | None,
    compiles: bool,
    data_workers: int,
    own_loss: str | None,
    on: str | None,
    workers: int,
    tensorboard: str | None,
    plot: bool,
    limits: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Train MODEL on --data: a description, a saved model's folder, a file of a framework, or the name of a function
    that makes one (mynet:Net). It has a training section, or --spec says how. What is frozen in it stays frozen.

    The output folder holds the trained model, its best weights, history.json and its picture. A checkpoint is
    written after every epoch: whatever stops the training, --resume goes on from there, in any framework. What
    --force replaces stays until the new training is done."""
    quiet_frameworks()
    from dlbridge import training

    framework = framework or frameworks.default_trainer()
    options: dict[str, Any] = {
        "read": {**reading(ctx), **read_limits(limits)},
        "spec": spec,
        "epochs": epochs,
        "validation": validation,
        "output": output,
    }
    running = {
        "framework": framework,
        "resume": resume or resume == "",
        "plot": plot,
        "force": force,
        "quiet": as_json,
        "validation": validation,
        "device": device,
        "compile": compiles,
        "data_workers": data_workers,
        "own_loss": own_loss,
        "tensorboard": tensorboard,
    }
    if emit is not None:
        refuse(ctx, _OF_A_TRAINING, "is of a training, which --emit does not run")
        loaded, how, _ = _opened(model, **options)
        script = training.emit(loaded, data, emit, framework=framework, spec=how, force=force)
        if as_json:
            print_json({"script": str(script)})
        else:
            click.echo(script)
        return
    if on is None:
        refuse(ctx, ("workers",), "is of --on; threads that read data are --data-workers")
    if on is not None:
        _on_ray(model, data, options, running, workers)
        return
    frameworks.get(framework).group()  # first of all: TensorFlow is told of other processes before it does anything
    loaded, how, target = _opened(model, **options)
    result = _train(loaded, data, target, how, running)
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


#: Options of a training that a script does not have.
_OF_A_TRAINING = (
    *("output", "validation", "resume", "device", "compiles", "data_workers", "own_loss", "on", "workers"),
    *("tensorboard", "plot"),
)


def _opened(
    model: str,
    *,
    read: dict[str, Any],
    spec: str | None,
    epochs: int | None,
    validation: str | None,
    output: str | None,
) -> tuple[Any, Any, Path]:
    """The model, how it is trained, and the folder that it is trained into."""
    from dlbridge import api
    from dlbridge.errors import TrainingError

    loaded = api.load(model, **read)
    how = read_spec(spec) if spec is not None else loaded.training
    if how is None:
        raise TrainingError("the model has no training section", where=model, hint="say --spec FILE; docs/training.md")
    how = how if epochs is None else how.model_copy(update={"epochs": epochs})
    if validation is not None:
        how = how.model_copy(update={"validation_split": 0.0})
    return loaded, how, Path(output or f"{loaded.name}-trained")


def _train(loaded: Any, data: str, target: Path, how: Any, running: dict[str, Any]) -> Any:
    from dlbridge import training

    running = dict(running)
    board, own_loss = running.pop("tensorboard"), _own_loss(running.pop("own_loss"))
    callbacks = [training.TensorBoard(board, by_step=True)] if board is not None else []
    return training.train_to_folder(loaded, data, target, spec=how, own_loss=own_loss, callbacks=callbacks, **running)


def _on_ray(model: str, data: str, options: dict[str, Any], running: dict[str, Any], workers: int) -> None:
    """Train in several processes on Ray."""
    from functools import partial

    from dlbridge.errors import require

    on_ray = require("dlbridge.training.on_ray", "scale")
    _, _, target = _opened(model, **options)  # what is wrong is said before a cluster is begun
    work = partial(_work, model, data, options, {**running, "quiet": True})
    on_gpus = str(running["device"] or "").startswith("cuda")
    on_ray.run(work, target, running["framework"], workers, on_gpus)
    if running["quiet"]:
        history = json.loads((target / "history.json").read_text(encoding="utf-8"))
        print_json({"output": str(target), "interrupted": False, "history": history})
    else:
        click.echo(f"trained in {running['framework']} by {workers} processes: {target}")


def _work(model: str, data: str, options: dict[str, Any], running: dict[str, Any], is_again: bool) -> None:
    """What each process on Ray does; ``is_again`` where it goes on with what another has begun."""
    frameworks.get(running["framework"]).group()
    loaded, how, target = _opened(model, **options)
    _train(loaded, data, target, how, {**running, "resume": is_again or running["resume"]})


def _own_loss(name: str | None) -> Any:
    """The function of that name."""
    from dlbridge import factories

    if name is None:
        return None
    if not factories.is_name(name):
        raise click.BadParameter(f"'{name}' names no function", param_hint="--loss mylosses:focal, losses.py:focal")
    return factories.find(name)
