"""Gives the inputs and outputs of a model other names; its original is called by them, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlbridge.border import check_name
from dlbridge.errors import SignatureError, suggest
from dlbridge.factories import split_pairs
from dlbridge.ops import traits
from dlbridge.ops.names import make_room

if TYPE_CHECKING:
    from dlbridge.model import Model

_Arrays = Mapping[str, np.ndarray]


def rename(model: Model, names: Mapping[str, str]) -> None:
    """Rename inputs and outputs, in place.

    Args:
        model: The model.
        names: Name -> new name.

    Raises:
        SignatureError: When there is no such input or output, or two would have one name.
        FileError: When a new name is none.
    """
    values = {str(v.name): v for v in (*model.inputs, *model.outputs)}
    in_files = traits.port_names(model.graph)
    said = {in_file: name for name, in_file in in_files.items()}
    names = {old if old in values else said.get(old, old): new for old, new in names.items()}
    for old, new in names.items():
        if old not in values:
            hint = suggest(old, values) or f"inputs and outputs: {', '.join(values)}"
            raise SignatureError(f"there is no input or output '{old}'", where=model.name, hint=hint)
        check_name(new, model.name)
    after = [names.get(name, name) for name in values]
    twice = [name for name in after if not name or after.count(name) > 1]
    if twice:
        raise SignatureError(f"two inputs or outputs cannot be called '{twice[0]}'", where=model.name)
    make_room(model.graph, set(names.values()))
    for name in set(names.values()) & set(model.graph.initializers):
        raise SignatureError(f"a weight of the model is called '{name}'", where=model.name)
    inputs = {str(v.name): names.get(str(v.name), str(v.name)) for v in model.inputs}
    outputs = {str(v.name): names.get(str(v.name), str(v.name)) for v in model.outputs}
    keys = traits.output_keys(model.graph)
    if keys is not None:
        pairs = zip(model.outputs, keys, strict=True)
        traits.set_output_keys(model.graph, [names.get(str(value.name), key) for value, key in pairs])
    for old, new in names.items():
        values[old].name = new
    traits.set_port_names(model.graph, {name: own for name, own in in_files.items() if name not in names})
    if model.original is not None:
        model.original = Renamed(model.original, inputs, outputs)


class Renamed:
    """Runs an original by the new names.

    Args:
        original: What runs it by the old names.
        inputs: Old name -> new name.
        outputs: The same of the outputs.
    """

    def __init__(self, original: Any, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        self.inputs, self.outputs, self._original = inputs, outputs, original
        if hasattr(original, "exact"):
            self.exact = lambda: _RenamedExact(original.exact(), inputs, outputs)
        if hasattr(original, "opened"):
            self.opened = lambda: Renamed(original.opened(), inputs, outputs)

    def __call__(self, arrays: _Arrays) -> dict[str, np.ndarray]:
        return _run(self._original, arrays, self.inputs, self.outputs)


class _RenamedExact:
    """The same in float64 (``frameworks.Exact``)."""

    def __init__(self, exact: Any, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        self._exact, self._inputs, self._outputs = exact, inputs, outputs
        self.eps: float = exact.eps

    def __call__(
        self, arrays: _Arrays, *, noise: float = 0.0, seen: list[np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        def run(given: _Arrays) -> dict[str, np.ndarray]:
            return self._exact(given, noise=noise, seen=seen)

        return _run(run, arrays, self._inputs, self._outputs)


def _run(
    run: Callable[[_Arrays], dict[str, np.ndarray]],
    arrays: _Arrays,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
) -> dict[str, np.ndarray]:
    found = run({old: arrays[new] for old, new in inputs.items() if new in arrays})
    return {outputs.get(name, name): array for name, array in found.items()}


def parse_names(texts: Sequence[str]) -> dict[str, str]:
    """Name -> new name, of ``old=new``.

    Raises:
        ValueError: When a text is not of that form, or says a name twice.
    """
    found = split_pairs(texts, "old=new")
    for old, new in found.items():
        if not new:
            raise ValueError(f"'{old}=' has no new name")
    return found
