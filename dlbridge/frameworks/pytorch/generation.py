"""Reads models of transformers that generate text, for graphs that do both: take a prompt, and go on by a step.

The graph takes the tokens, the mask of what is behind and in them, and the cache of what is behind, of any length, none
too; it returns the scores of the next token and the longer cache. Positions are computed from the mask. What it is
called with was chosen so that other programs take it as it is (decision 0200).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any

import torch

from dlbridge.decoding import DECODER, ENCODER, PAST, PRESENT, Settings, Task, check_task, first_size
from dlbridge.errors import DlbridgeError, require
from dlbridge.frameworks.inputs import parse_input
from dlbridge.frameworks.pytorch.arrays import dtype_name
from dlbridge.frameworks.pytorch.export import results
from dlbridge.frameworks.pytorch.export.caches import TransformersCache, is_transformers
from dlbridge.frameworks.pytorch.export.calling import Arguments, Calling
from dlbridge.frameworks.pytorch.export.training_mode import in_eval_mode
from dlbridge.frameworks.pytorch.files import pretrained

#: What an input says of what is behind it: any length, none too.
_BEHIND = "0<=past"
#: Sizes of the runs that show how a cache grows: rows, and two lengths that are within every window.
_ROWS, _LENGTHS = 3, (1, 2)

Tree = dict[str, Any]


def task(module: torch.nn.Module, name: Task) -> tuple[dict[str, Any], Calling]:
    """(inputs to read a module with, how it is called) for a task.

    Raises:
        DlbridgeError: When the module does not generate, or not in the way of the task.
    """
    if not is_transformers(module):
        raise DlbridgeError(
            "how it generates is not known: it is no model of transformers",
            where=type(module).__name__,
            hint="name its cache among the inputs instead: --input 'past.0.key[batch,4,past,16]' ...",
        )
    is_pair = bool(getattr(module.config, "is_encoder_decoder", False))
    if is_pair != (name in ("encode", "decode")):
        pair = "task='encode' and task='decode'; dlbridge.convert(..., task='generate') writes both"
        raise DlbridgeError(
            "an encoder and its decoder are two graphs" if is_pair else "it has no encoder",
            where=type(module).__name__,
            hint=f"read it with {pair}" if is_pair else "task='generate'",
        )
    made: _Generating = {"generate": _Decoder, "encode": _Encoder, "decode": _CrossDecoder}[name](module)
    return made.inputs(), made


def parts(source: Any, task: str, *, trust_code: bool = False) -> dict[str, str]:
    """The graphs that a module, or the model in a folder, is written as for a task.

    Raises:
        DlbridgeError: When there is no such task.
    """
    check_task(task)
    if isinstance(source, (str, os.PathLike)):
        automatic = require("transformers", "").AutoConfig
        config = automatic.from_pretrained(source, local_files_only=True, trust_remote_code=trust_code)
    else:
        config = getattr(source, "config", None)
    if task == "generate" and getattr(config, "is_encoder_decoder", False):
        return {ENCODER: "encode", DECODER: "decode"}
    return {"": task}


def settings(module: torch.nn.Module) -> Settings:
    """The special tokens of a model of transformers."""
    said = [getattr(module, "generation_config", None), module.config]

    def tokens(name: str) -> tuple[int, ...]:
        value = next((v for c in said if (v := getattr(c, name, None)) is not None), ())
        listed = value if isinstance(value, (list, tuple)) else (value,)
        return tuple(int(token) for token in listed if token >= 0)  # -1 is how some say that there is none

    config = module.config.get_text_config()
    stop = tokens("eos_token_id")
    words = first_size(config, "vocab_size")
    fills = [token for token in (*tokens("pad_token_id"), *stop) if words is None or token < words]
    return Settings(
        stop=stop,
        pad=next(iter(fills), 0),
        start=next(iter(tokens("decoder_start_token_id") or tokens("bos_token_id")), None),
        suppress=tokens("suppress_tokens"),
        suppress_first=tokens("begin_suppress_tokens"),
        first=next(iter(tokens("forced_bos_token_id")), None),
        last=next(iter(tokens("forced_eos_token_id")), None),
        begin=next(iter(tokens("bos_token_id")), None),
        context=first_size(config, "max_position_embeddings", "n_positions", "max_seq_len"),
        heads=first_size(config, "num_attention_heads"),
        width=first_size(config, "hidden_size"),
    )


class _Generating(Calling):
    """A call of a model of transformers for one of the tasks.

    Args:
        module: The model.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self._where = type(module).__name__
        self._parameters = inspect.signature(module.forward).parameters
        self._layers = self._cache_of(module)

    def inputs(self) -> dict[str, Any]:
        """What is said of each input: its dtype and sizes."""
        raise NotImplementedError

    def signature(self, forward: inspect.Signature) -> inspect.Signature:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature([inspect.Parameter(name, kind) for name in self.inputs()])

    def keeps_inputs(self, forward: inspect.Signature) -> bool:
        return False  # each task makes what the model takes of what it is given

    def must_read(self, name: str) -> bool:
        return True

    @property
    def _cache_name(self) -> str:
        """The parameter that takes the cache.

        Raises:
            DlbridgeError: When there is none.
        """
        name = next((name for name in self._parameters if name in results.CACHES), None)
        if name is None:
            raise DlbridgeError("it takes no cache", where=self._where)
        return name

    def _prompt(self, module: torch.nn.Module, rows: int, length: int) -> dict[str, Any]:
        """The least that a model is called with."""
        return {"input_ids": torch.ones(rows, length, dtype=torch.long)}

    def _cache_of(self, module: torch.nn.Module) -> Tree:
        """What is said of the cache that the model returns: ``{"0": {"key": "float32[batch,2,0<=past,8]", ...}}``.

        Raises:
            DlbridgeError: When it is none, or does not grow by each token.
        """
        shapes = []
        for length in _LENGTHS:
            try:
                with torch.no_grad(), in_eval_mode(module):
                    result = module(**self._prompt(module, _ROWS, length), use_cache=True, return_dict=True)
            except Exception as error:  # the model's own code raises what it likes
                text = f"it cannot be run for its cache: {type(error).__name__}: {error}"
                raise DlbridgeError(text, where=self._where) from error
            cache = next((value for name, value in result.items() if name in results.CACHES), None)
            if cache is None:
                raise DlbridgeError("it returns no cache", where=self._where)
            shapes.append(results.plain(cache))
        return {str(index): self._layer(shapes, str(index)) for index in range(len(shapes[0]))}

    def _layer(self, caches: list[Tree], index: str) -> Tree:
        """What is said of one layer of the cache, of the caches for two lengths."""
        return self._grown([cache.get(index) for cache in caches], _BEHIND)

    def _grown(self, layers: list[Any], length: str) -> Tree:
        found = {}
        for name in ("key", "value"):
            tensors: list[Any] = [layer.get(name) if isinstance(layer, Mapping) else None for layer in layers]
            sizes = [list(tensor.shape) if tensor is not None else [] for tensor in tensors]
            grows = [[_ROWS, *size[1:2], count, *size[3:]] for size, count in zip(sizes, _LENGTHS, strict=True)]
            if any(set(layer or ()) - {"key", "value"} for layer in layers) or sizes != grows:
                raise DlbridgeError(
                    "its cache is not one of keys and values that grow by each token",
                    where=self._where,
                    hint="models with a state of a fixed size, or with layers that share a cache, are not written for "
                    "generation yet",
                )
            found[name] = _text(tensors[0], length)
        return found

    def _check_mask(self, name: str) -> None:
        if name not in self._parameters:
            raise DlbridgeError(
                f"it takes no '{name}': rows of several lengths could not be told apart", where=self._where
            )


class _Decoder(_Generating):
    """A decoder: tokens, mask and cache in, scores and cache out."""

    def inputs(self) -> dict[str, Any]:
        self._check_mask("attention_mask")
        return {
            "input_ids": "int64[batch,seq]",
            "attention_mask": "int64[batch,past+seq]",
            PAST: self._layers,
        }

    def arguments(self, forward: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        ids, mask, past = kwargs["input_ids"], kwargs["attention_mask"], kwargs[PAST]
        behind = past["0"]["key"].shape[-2]
        torch._check(mask.shape[1] == behind + ids.shape[1])
        given = {"input_ids": ids, "attention_mask": mask, self._cache_name: TransformersCache().made(past)}
        if "position_ids" in self._parameters:  # as transformers' generate has them
            positions = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 0)
            given["position_ids"] = positions[:, behind:]
        return (), {**given, "use_cache": True, "return_dict": True}

    def result(self, result: Any) -> Any:
        return {"logits": result.logits, PRESENT: _cache_in(result)}


class _EncoderDecoder(_Generating):
    """A model that is an encoder and a decoder."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._main = str(getattr(module, "main_input_name", "input_ids"))
        self._source = _source(module, self._main)
        super().__init__(module)
        self._width = int(getattr(module.config, "d_model", None) or module.config.hidden_size)

    @property
    def _is_text(self) -> bool:
        return self._main == "input_ids"

    def _prompt(self, module: torch.nn.Module, rows: int, length: int) -> dict[str, Any]:
        given: dict[str, Any] = {"decoder_input_ids": torch.ones(rows, length, dtype=torch.long)}
        if self._is_text:
            return {**given, "input_ids": torch.ones(rows, length, dtype=torch.long)}
        _, *sizes = self._source
        return {**given, self._main: torch.zeros(rows, *sizes, dtype=module.dtype)}

    def _layer(self, caches: list[Tree], index: str) -> Tree:
        layers = [cache.get(index) for cache in caches]
        parts = {
            part: [layer.get(part) if isinstance(layer, Mapping) else None for layer in layers]
            for part in ("decoder", "encoder")
        }
        encoder = self._grown(parts["encoder"], "source") if self._is_text else _fixed(parts["encoder"][0])
        return {"decoder": self._grown(parts["decoder"], _BEHIND), "encoder": encoder}


class _Encoder(_EncoderDecoder):
    """The encoder, and what each layer of the decoder makes of its output: the keys and values of its cross-attention.

    They are found by running the decoder for its first token; nothing else of it stays in the graph.
    """

    def inputs(self) -> dict[str, Any]:
        if not self._is_text:
            dtype, *sizes = self._source
            return {self._main: f"{dtype}[batch,{','.join(map(str, sizes))}]"}
        self._check_mask("attention_mask")
        return {"input_ids": "int64[batch,source]", "attention_mask": "int64[batch,source]"}

    def arguments(self, forward: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        rows = kwargs[self._main].shape[0]
        first = torch.zeros((rows, 1), dtype=torch.long)  # any token: the cross-attention reads the encoder alone
        return (), {**kwargs, "decoder_input_ids": first, "use_cache": True, "return_dict": True}

    def result(self, result: Any) -> Any:
        return {PRESENT: {index: {"encoder": layer["encoder"]} for index, layer in _cache_in(result).items()}}


class _CrossDecoder(_EncoderDecoder):
    """The decoder, which takes what the encoder's graph has made for its cross-attention as a part of its cache."""

    def inputs(self) -> dict[str, Any]:
        mask = {"encoder_attention_mask": "int64[batch,source]"} if self._is_text else {}
        return {"input_ids": "int64[batch,seq]", **mask, PAST: self._layers}

    def arguments(self, forward: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        past = kwargs[PAST]
        cross = past["0"]["encoder"]["key"]
        # The states of the encoder are not read: the cache has all that is made of them.
        states = cross.new_zeros((cross.shape[0], cross.shape[2], self._width))
        given: dict[str, Any] = {"decoder_input_ids": kwargs["input_ids"], "encoder_outputs": (states,)}
        if self._is_text:
            given["attention_mask"] = kwargs["encoder_attention_mask"]
        given[self._cache_name] = TransformersCache().made(past)
        return (), {**given, "use_cache": True, "return_dict": True}

    def result(self, result: Any) -> Any:
        present = {index: {"decoder": layer["decoder"]} for index, layer in _cache_in(result).items()}
        return {"logits": result.logits, PRESENT: present}


def _cache_in(result: Mapping[str, Any]) -> Tree:
    found: Tree = results.plain(next(value for name, value in result.items() if name in results.CACHES))
    return found


def _fixed(layer: Any) -> Tree:
    """What is said of keys and values whose length is always that of the model's positions."""
    return {name: _text(layer[name], layer[name].shape[2]) for name in ("key", "value")}


def _text(tensor: torch.Tensor, length: str | int) -> str:
    """What is said of keys or values."""
    _, heads, _, width = tensor.shape
    return f"{dtype_name(tensor.dtype)}[batch,{heads},{length},{width}]"


def _source(module: torch.nn.Module, main: str) -> tuple[Any, ...]:
    """(dtype, sizes of one row) of what an encoder takes that is no text.

    Raises:
        DlbridgeError: When the model's configuration does not tell.
    """
    if main == "input_ids":
        return ()
    text = pretrained.known_inputs(module).get(main)
    if text is None:
        raise DlbridgeError(f"the sizes of its input '{main}' are not known", where=type(module).__name__)
    said = parse_input(text, main)
    return (said.dtype, *(int(size) for size in said.sizes[1:]))
