"""Reads models of keras_hub that generate text, for graphs that do both: take a prompt, and go on by a step.

keras_hub's ``call_with_cache`` writes the keys and values of new tokens into a cache that has room for the whole text.
The graph takes what is behind the tokens alone, of any length, none too, as other programs give it: the room for the
new tokens is made inside, and what ``call_with_cache`` returns is the longer cache (decision 0283).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from dlbridge.decoding import PAST, PRESENT, Settings, Task, check_task, first_size
from dlbridge.errors import DlbridgeError

#: Axes of the cache of keras_hub: (rows, layers, keys and values, tokens, heads, size of a head).
_RANK, _TOKENS, _HEADS, _WIDTH = 6, 3, 4, 5
#: Sizes of the runs that show how a cache grows: rows, and two lengths.
_ROWS, _LENGTHS = 3, (1, 2)
_KINDS = ("key", "value")


def parts(source: Any, task: str) -> dict[str, str]:
    """The graphs that a model is written as for a task.

    Raises:
        DlbridgeError: When there is no such task.
    """
    check_task(task)
    return {"": task}


def decoder(causal_lm: Any, task: Task) -> Decoder:
    """A model that takes what a graph for a task takes.

    Raises:
        DlbridgeError: When the model does not generate, or not in the way of the task.
    """
    if task != "generate":
        raise DlbridgeError("it has no encoder", where=type(causal_lm).__name__, hint="task='generate'")
    return Decoder(causal_lm)


class Decoder(keras.Model):
    """A causal language model of keras_hub that takes what is behind the tokens, and returns the longer cache.

    Args:
        causal_lm: The model.

    Attributes:
        inputs_said: Input -> its dtype and sizes, nested as ``call`` takes them.
        constraints: What the sizes keep: there may be nothing behind the tokens.

    Raises:
        DlbridgeError: When it does not generate by a cache of keys and values that grow by each token.
    """

    constraints = ("0 <= past",)

    def __init__(self, causal_lm: Any) -> None:
        super().__init__(name=causal_lm.name)
        self.causal_lm = causal_lm
        layers, heads, width, dtype = _cache_of(causal_lm)
        cache = f"{dtype}[batch,{heads},past,{width}]"
        self.inputs_said: dict[str, Any] = {
            "input_ids": "int64[batch,seq]",
            PAST: {str(index): dict.fromkeys(_KINDS, cache) for index in range(layers)},
        }

    def call(self, input_ids: Any, past_key_values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        layers = list(past_key_values.values())
        behind, new = ops.shape(layers[0]["key"])[2], ops.shape(input_ids)[1]
        cache = ops.stack([ops.stack([_with_room(layer[kind], new) for kind in _KINDS], 1) for layer in layers], 1)
        logits, _, cache = self.causal_lm.call_with_cache(input_ids, cache, behind)
        present = {
            name: {kind: ops.transpose(cache[:, layer][:, place], (0, 2, 1, 3)) for place, kind in enumerate(_KINDS)}
            for layer, name in enumerate(past_key_values)
        }
        return {"logits": logits, PRESENT: present}

    def settings(self) -> Settings:
        """The special tokens of the model, as its tokenizer has them, and its sizes."""
        tokenizer = getattr(getattr(self.causal_lm, "preprocessor", None), "tokenizer", None)
        backbone = getattr(self.causal_lm, "backbone", None)
        ends = [_token(tokenizer, name) for name in ("end_token_id", "end_token2_id")]
        return Settings(
            stop=tuple(dict.fromkeys(end for end in ends if end is not None)),
            pad=_token(tokenizer, "pad_token_id") or 0,
            begin=_token(tokenizer, "start_token_id"),
            context=first_size(backbone, "max_sequence_length"),
            heads=first_size(backbone, "num_query_heads", "num_heads", "num_attention_heads"),
            width=first_size(backbone, "hidden_dim"),
        )


def _with_room(past: Any, count: Any) -> Any:
    """Keys or values (batch, heads, tokens, width) as (batch, tokens, heads, width), with zeros for further tokens."""
    past = ops.transpose(past, (0, 2, 1, 3))
    batch, _, heads, width = ops.shape(past)
    return ops.concatenate([past, ops.zeros((batch, count, heads, width), past.dtype)], 1)


def _cache_of(causal_lm: Any) -> tuple[int, int, int, str]:
    """(layers, heads, size of a head, dtype) of the cache of a model.

    Raises:
        DlbridgeError: When it has none, or one of another form.
    """
    where = type(causal_lm).__name__
    make: Callable[[Any], Any] | None = getattr(causal_lm, "_build_cache", None)
    if make is None or not hasattr(causal_lm, "call_with_cache"):
        raise DlbridgeError("how it generates is not known: it is no causal language model of keras_hub", where=where)
    try:
        caches = [make(ops.ones((_ROWS, length), "int32"))[1] for length in _LENGTHS]
    except Exception as error:  # the model's own code raises what it likes
        text = f"it cannot be run for its cache: {type(error).__name__}: {error}"
        raise DlbridgeError(text, where=where) from error
    shapes = [tuple(cache.shape) if ops.is_tensor(cache) else () for cache in caches]
    first = shapes[0]
    grown = [(_ROWS, *first[1:2], len(_KINDS), length, *first[_HEADS:]) for length in _LENGTHS]
    if len(first) != _RANK or shapes != grown:
        raise DlbridgeError(
            "its cache is not one tensor of keys and values that grow by each token",
            where=where,
            hint="models with a cache of another form are not written for generation yet",
        )
    return first[1], first[_HEADS], first[_WIDTH], keras.backend.standardize_dtype(caches[0].dtype)


def _token(tokenizer: Any, name: str) -> int | None:
    found = getattr(tokenizer, name, None)
    return int(found) if isinstance(found, int) and found >= 0 else None
