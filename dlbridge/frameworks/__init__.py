"""The frameworks: each is a folder with the same furniture that implements one protocol.

A third party adds a framework through the entry-point group ``dlbridge.frameworks``: the name is the framework's, the
value an object (or a class without arguments) that implements :class:`Framework`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from dlbridge.errors import DlbridgeError, suggest

if TYPE_CHECKING:
    from dlbridge.model import Model
    from dlbridge.source.program import Source

ENTRY_POINT_GROUP = "dlbridge.frameworks"
#: The framework whose runtime, which is not dlbridge's, executes the standard's ops as they are.
STANDARD = "onnx"


@runtime_checkable
class Framework(Protocol):
    """What a framework must be able to do. Importing the object must not import the framework itself.

    What it may have besides: ``exact(live)`` (see :class:`Exact`), ``exporter`` (the name of the program that its users
    take to write ONNX files, when ``export`` uses one), and ``save(source, target, certificate=, force=)`` where it
    writes something else than a folder of source and weights.
    """

    #: The word that users say: ``--to pytorch``.
    name: str
    #: The extra of the package that brings it (``pip install 'dlbridge[torch]'``).
    extra: str
    #: File endings that ``read`` understands.
    suffixes: tuple[str, ...]

    # A framework may list the names of its options in the tuples ``read_options`` and ``write_options``: one that is
    # mistyped is then told before any work is done.

    def accepts(self, source: object) -> bool:
        """Whether ``source`` is a live object of this framework (decided without importing the framework)."""
        ...

    def read(self, source: Any, **options: Any) -> Model:
        """A model of the framework, live or in a file, in the neutral form."""
        ...

    def write(self, model: Model, **options: Any) -> Source:
        """The model as source code, with the map from the framework's weights to the model's initializers."""
        ...

    def load(self, source: Any) -> Any:
        """The live model: a ``Source``, executed, with its weights; for ONNX also a file."""
        ...

    def run(self, live: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a live model in inference mode: arrays by input name -> arrays by output name."""
        ...

    def weights(self, live: Any) -> dict[str, np.ndarray]:
        """The live model's weights as they are now, by the keys of its ``Source.weights``."""
        ...

    def save_weights(self, source: Source, folder: Path) -> None:
        """Write the weights into a folder, in the framework's own format."""
        ...

    def export(self, live: Any, model: Model, path: Path, *, opset: int) -> Path:
        """Write the live model to an ONNX file by the framework's own exporter (or the one its users take)."""
        ...

    def trainer(self, model: Model, spec: Any, *, from_logits: bool, checkpoint: Any) -> Trainer:
        """Something that trains a model of one output; a framework that cannot train raises ``TrainingError``.

        Args:
            model: Its only output is what the loss reads.
            spec: A ``dlbridge.training.TrainingSpec``.
            from_logits: Whether the output is logits, where the loss is a cross-entropy.
            checkpoint: A ``dlbridge.training.result.Checkpoint`` whose optimizer slots are gone on with.
        """
        ...


class Exact(Protocol):
    """Runs a model with every float in float64. A framework that has it for its live models (a method ``exact(live)``
    beside the protocol), and an original that has it (``model.original.exact()``), are compared more closely: what
    rounding is owed is measured, and a failure names the node where numbers first depart.

    Attributes:
        eps: That of the coarsest float type in which the model computes by itself.
    """

    eps: float

    def __call__(
        self, arrays: Mapping[str, np.ndarray], *, noise: float = 0.0, seen: list[np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Arrays by output name.

        Args:
            arrays: Arrays by input name, in the model's own types.
            noise: Move each result on the way by a random part of at most this.
            seen: Gets each float array that is computed on the way, in order.
        """
        ...


class Trainer(Protocol):
    """A model in training. ``dlbridge.training`` runs the epochs."""

    def epoch(self, data: Any) -> dict[str, float]:
        """Train on the batches of a ``Dataset``, in their order; the mean loss and metrics over them."""
        ...

    def evaluate(self, data: Any) -> dict[str, float]:
        """The mean loss and metrics over a ``Dataset`` in inference mode."""
        ...

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], int]:
        """Copies of the weights by initializer, of the optimizer's slots by slot and initializer, and its steps."""
        ...


def check_options(framework: Framework, purpose: Literal["read", "write"], given: Iterable[str]) -> None:
    """Check the names of options before any work is done.

    Args:
        framework: Whose options they are; a plug-in that does not list its options checks them itself.
        purpose: What they are for.
        given: The names of the options that were given.

    Raises:
        DlbridgeError: When the framework takes no option of that name for this purpose.
    """
    taken = _options(framework, purpose)
    unknown = [] if taken is None else [name for name in given if name not in taken]
    if not unknown or taken is None:
        return
    name = unknown[0]
    hint = suggest(name, taken) or f"it takes: {', '.join(taken) or 'none'}"
    if purpose == "write" and any(name in (_options(get(n), "read") or ()) for n in names()):
        hint = f"what the reader is to know goes into read: read={{'{name}': ...}}"
    raise DlbridgeError(f"{framework.name} takes no option '{name}' to {purpose} a model", hint=hint)


def _options(framework: Framework, purpose: str) -> tuple[str, ...] | None:
    return getattr(framework, f"{purpose}_options", None)


_BUILT_IN = {
    "pytorch": "dlbridge.frameworks.pytorch",
    "keras": "dlbridge.frameworks.keras",
    "onnx": "dlbridge.frameworks.onnx",
}


def names() -> list[str]:
    """The frameworks there are, built in and plugged in."""
    return [*_BUILT_IN, *sorted(e.name for e in entry_points(group=ENTRY_POINT_GROUP) if e.name not in _BUILT_IN)]


@functools.cache
def get(name: str) -> Framework:
    """The framework of that name.

    Raises:
        DlbridgeError: When there is none, or a plug-in does not implement the protocol.
    """
    if name in _BUILT_IN:
        return importlib.import_module(_BUILT_IN[name]).FRAMEWORK
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        plugin = entry.load()
        plugin = plugin() if isinstance(plugin, type) else plugin
        if not isinstance(plugin, Framework):
            raise DlbridgeError(
                f"the plug-in {entry.value} does not implement dlbridge.frameworks.Framework", where=name
            )
        return plugin
    raise DlbridgeError(f"unknown framework '{name}'", hint=suggest(name, names()) or f"known: {', '.join(names())}")
