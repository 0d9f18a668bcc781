"""What a Keras model does in training alone that is in no graph: losses that code adds, and what drops at random."""

from __future__ import annotations

from typing import Any

import keras

from dlbridge.frameworks.keras import compat
from dlbridge.frameworks.keras.graph.graph_reader import GraphReader

#: Layers whose dropout is a node of the graph, or a trait of one.
_KEPT_RATES = (keras.layers.Dropout, keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


def added_losses(live: Any, reader: GraphReader) -> list[str]:
    """Terms that Keras adds to the loss of a model, other than regularizers of weights."""
    found = [f"{path or live.name}: its code adds a loss (add_loss)" for path in reader.losses]
    for layer in live._flatten_layers():
        if layer.activity_regularizer is not None:
            found.append(f"{layer.name}: the activity regularizer {type(layer.activity_regularizer).__name__}")
    return found


def lost(live: Any, reader: GraphReader) -> list[str]:
    """What acts in training alone, adds nothing to the loss, and is in nothing that is written."""
    found = [f"{path or live.name}: its code does something else in training" for path in reader.training_code]
    every = live._flatten_layers()
    cells = {id(layer.cell) for layer in every if isinstance(layer, keras.layers.RNN)}
    for layer in every:
        if not compat.is_from_keras(type(layer)) or id(layer) in cells or isinstance(layer, _KEPT_RATES):
            continue
        rates = {name: getattr(layer, name, 0) for name in ("dropout", "recurrent_dropout")}
        found += [f"{layer.name}: its {name} of {rate}" for name, rate in rates.items() if _is_rate(rate)]
    return found


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float)) and value > 0
