"""Runs the Keras model that a model was read from, in its own types and in float64, by the model's names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from dlbridge.frameworks.class_sources import class_sources
from dlbridge.frameworks.keras.exact import Exact
from dlbridge.ops.strings import as_text, is_text


class Original:
    """The live Keras model as a function: arrays by input name -> arrays by output name.

    Args:
        live: The model.
        given, named: Nests of the inputs that are its positional and keyword arguments.
        outputs: Names of its outputs, in order.
    """

    def __init__(self, live: Any, given: tuple[Any, ...], named: Mapping[str, Any], outputs: Sequence[str]) -> None:
        self._live, self._outputs = live, list(outputs)
        self._nests = tree.map_structure(lambda value: value.name, (given, dict(named)))
        self._mode = {"training": False} if "training" in inspect.signature(live.call).parameters else {}

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run it in its own types."""
        result = self._run({name: keras.ops.convert_to_tensor(array) for name, array in arrays.items()})
        made = (keras.ops.convert_to_numpy(value) for value in result)
        return {n: as_text(a) if is_text(a) else a for n, a in zip(self._outputs, made, strict=True)}

    def exact(self) -> Exact:
        """Runs it in float64; the model stays as it is."""
        return Exact(self._run, self._outputs)

    def sources(self) -> dict[str, str]:
        """Name of a class -> its code, of the model and of layers in it that are not Keras' own."""
        return class_sources(self._live._flatten_layers(), "keras")

    def _run(self, tensors: Mapping[str, Any]) -> list[Any]:
        arguments, keywords = tree.map_structure(lambda name: tensors[name], self._nests)
        result = tree.flatten(self._live(*arguments, **keywords, **self._mode))
        return [value for value in result if value is not None]
