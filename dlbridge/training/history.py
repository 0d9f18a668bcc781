"""Writes the history of a training, as JSON and as a plot."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path

from dlbridge.errors import require
from dlbridge.files import writing
from dlbridge.json_types import finite
from dlbridge.training import curves
from dlbridge.training.result import History


def save(history: History, path: Path) -> None:
    """Write a history as JSON: metric -> one number an epoch, null where it is infinite or NaN."""
    path.write_text(json.dumps(finite(history), indent=2) + "\n", encoding="utf-8")


def has_matplotlib() -> bool:
    """Whether matplotlib is installed, which draws histories; an SVG file is drawn without it too."""
    return importlib.util.find_spec("matplotlib") is not None


def plot(histories: Mapping[str, History], path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Draw the metrics of one or more trainings, a panel a metric, one line for each training.

    Args:
        histories: Name in the legend -> history.
        path: The picture: PNG, SVG or PDF by its ending.
        force: Replace a file that is there.

    Raises:
        MissingExtraError: When matplotlib is not installed, and the picture is no SVG file.
        FileError: When the file exists and ``force`` is not set.
    """
    if not has_matplotlib() and Path(path).suffix.lower() == ".svg":
        with writing(path, force=force) as fresh:
            fresh.write_text(curves.svg(histories), encoding="utf-8")
        return Path(path)
    require("matplotlib", "plot")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    metrics = list(dict.fromkeys(m.removeprefix("val_") for h in histories.values() for m in h))
    figure = Figure(figsize=(5 * len(metrics), 3.6), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for number, (name, history) in enumerate(histories.items()):
            for key, style in ((metric, "-"), (f"val_{metric}", ":")):
                if key in history:
                    label = f"{name} {'validation' if style == ':' else 'training'}"
                    epochs = range(1, len(history[key]) + 1)
                    # Equal curves lie on top of each other: the later ones are thinner, so that all are seen.
                    axes.plot(epochs, history[key], style, label=label, linewidth=5 / (number + 1), alpha=0.8)
        axes.set(xlabel="epoch", title=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    with writing(path, force=force) as fresh:
        figure.savefig(fresh, dpi=120)
    return Path(path)
