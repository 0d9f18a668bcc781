"""Caches among the inputs of a module: taken apart into tensors with names, and made of such tensors again.

A live cache in the example (``DynamicCache``, a class of the user's own) is the pattern of those that are made. Where
only sizes are said (``past_key_values.0.key``), a model of transformers gets the library's own classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch

from dlbridge.errors import SignatureError, require
from dlbridge.frameworks.inputs import parse_input
from dlbridge.frameworks.pytorch.arrays import dtype_name
from dlbridge.frameworks.pytorch.compat import pytree
from dlbridge.frameworks.pytorch.export import results

Tree = Any


class Form(Protocol):
    """What is made of the tensors that are given for a parameter."""

    def made(self, tree: Tree) -> Any:
        """The object that the module takes, of tensors in dicts."""
        ...

    def numbers(self) -> Iterable[tuple[str, int]]:
        """(where, number) of each whole number that every such object holds beside its tensors."""
        ...


# --- of a live example ------------------------------------------------------------------------------------------------


class Pattern:
    """Makes copies of an object with other tensors in it.

    Args:
        example: The object.
        where: What it is an input for.

    Raises:
        SignatureError: When its tensors cannot be replaced.
    """

    def __init__(self, example: Any, where: str) -> None:
        self._example = example
        self._paths = results.paths(example)
        for path in self._paths.values():
            holder, _ = _holder(example, path)
            if isinstance(holder, tuple):
                raise SignatureError(
                    f"a {type(example).__name__} that holds its tensors in tuples cannot be an input",
                    where=where,
                    hint="hold them in a list, a dict or attributes, or pass them as nested tuples",
                )

    def tree(self) -> Tree:
        """The example's tensors in nested dicts."""
        return results.plain(self._example)

    def numbers(self) -> Iterator[tuple[str, int]]:
        for path, value in results.within(self._example):
            if isinstance(value, int) and not isinstance(value, bool):
                yield ".".join(path), value

    def made(self, tree: Tree) -> Any:
        memo = {id(tensor): tensor for tensor in results.tensors(self._example)}
        made = copy.deepcopy(self._example, memo)
        for names, path in self._paths.items():
            tensor = tree
            for name in names:
                tensor = tensor[name]
            holder, last = _holder(made, path)
            if isinstance(holder, list):
                holder[int(last)] = tensor
            elif isinstance(holder, Mapping):
                holder[_key(holder, last)] = tensor  # type: ignore[index]
            else:
                setattr(holder, last, tensor)
        return made


def _holder(value: Any, path: tuple[str, ...]) -> tuple[Any, str]:
    """(what holds the last part of a path, that part)."""
    *around, last = path
    for name in around:
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            value = value[int(name)]
        elif isinstance(value, Mapping):
            value = value[_key(value, name)]
        else:
            value = getattr(value, name)
    return value, last


def _key(mapping: Mapping[Any, Any], name: str) -> Any:
    return next(key for key in mapping if str(key) == name)


# --- of transformers --------------------------------------------------------------------------------------------------


class TransformersCache:
    """Makes ``DynamicCache`` of ``{"0": {"key": ..., "value": ...}}``, and ``EncoderDecoderCache`` of such within
    ``decoder`` and ``encoder``.

    Every layer keeps all that it is given, those with a sliding window too: what is outside the window is masked.
    """

    def made(self, tree: Tree) -> Any:
        transformers = require("transformers", "")
        layers = [tree[str(index)] for index in range(len(tree))]
        if "decoder" not in layers[0]:
            return _dynamic(transformers, layers)
        own = _dynamic(transformers, [layer["decoder"] for layer in layers])
        cross = _dynamic(transformers, [layer["encoder"] for layer in layers])
        return transformers.EncoderDecoderCache(own, cross)

    def numbers(self) -> Iterable[tuple[str, int]]:
        return ()


def _dynamic(transformers: Any, layers: list[Mapping[str, torch.Tensor]]) -> Any:
    cache = transformers.DynamicCache()
    for held in layers:
        layer = transformers.cache_utils.DynamicLayer()
        layer.dtype, layer.device = held["key"].dtype, held["key"].device
        layer.keys, layer.values, layer.is_initialized = held["key"], held["value"], True
        cache.layers.append(layer)
    return cache


def is_transformers(module: torch.nn.Module) -> bool:
    return hasattr(module, "config") and any(base.__name__ == "PreTrainedModel" for base in type(module).__mro__)


# --- what the user says -----------------------------------------------------------------------------------------------


def taken_apart(module: torch.nn.Module, inputs: Any) -> tuple[Any, dict[str | int, Form]]:
    """The inputs with every cache in tensors (or in what is said of them), and how the caches are made again.

    Dotted names (``past.0.key``) become nested dicts, or tuples where all of their parts are numbers (``past.0.1``).

    Raises:
        SignatureError: When a cache cannot be taken apart.
    """
    if isinstance(inputs, Mapping):
        items: list[tuple[str | int, Any]] = [(str(name), value) for name, value in inputs.items()]
    elif type(inputs) in (tuple, list):
        items = list(enumerate(inputs))
    else:
        return inputs, {}
    forms: dict[str | int, Form] = {}
    found: dict[str | int, Any] = {}
    dotted: dict[str, Any] = {}
    for parameter, value in items:
        if isinstance(parameter, str) and "." in parameter:
            found.setdefault(parameter.partition(".")[0], {})
            dotted[parameter] = value
            continue
        if _is_object(value):
            pattern = Pattern(value, f"input {parameter}")
            forms[parameter], value = pattern, pattern.tree()
        found[parameter] = value
    for name, value in dotted.items():
        _put(found, name, value)
    for parameter in {name.partition(".")[0] for name in dotted} - forms.keys():
        found[parameter] = _as_tuples(found[parameter])
    for parameter, value in found.items():
        is_tree = isinstance(value, Mapping) and parameter in results.CACHES and parameter not in forms
        if is_tree and is_transformers(module):
            _check_layers(value, f"input {parameter}")
            forms[parameter] = TransformersCache()
    return (found if isinstance(inputs, Mapping) else type(inputs)(found.values())), forms


def _is_object(value: Any) -> bool:
    """Whether a value holds tensors and is of a class that PyTorch does not know as a container."""
    leaves = pytree.tree_leaves(value)
    is_leaf = len(leaves) == 1 and leaves[0] is value
    return is_leaf and results.is_unknown(value) and bool(results.paths(value))


def _put(tree: dict[Any, Any], name: str, value: Any) -> None:
    """Put what is said of ``past.0.key`` into nested dicts; it takes the place of an example's tensor.

    Raises:
        SignatureError: When it is within what is no dict.
    """
    *around, last = name.split(".")
    for part in around:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise SignatureError(f"'{name}' is within another input", where=f"input {name}")
    known = tree.get(last)
    if isinstance(value, str) and isinstance(known, torch.Tensor):
        value = str(parse_input(value, f"input {name}").with_dtype(dtype_name(known.dtype)))
    tree[last] = value


def _as_tuples(tree: Any) -> Any:
    """Nested tuples where all keys are 0, 1, 2, ..."""
    if not isinstance(tree, dict):
        return tree
    inner = {name: _as_tuples(value) for name, value in tree.items()}
    is_row = set(inner) == {str(index) for index in range(len(inner))}
    if is_row and not any(isinstance(value, dict) for value in inner.values()):
        return tuple(inner[str(index)] for index in range(len(inner)))
    return inner


def _check_layers(tree: Mapping[str, Any], where: str) -> None:
    """Check that what is said of a cache are keys and values of layers 0, 1, 2, ...

    Raises:
        SignatureError: When it is something else.
    """
    one, both = {"key", "value"}, {"decoder", "encoder"}
    for index in range(len(tree)):
        layer = tree.get(str(index))
        names = set(layer) if isinstance(layer, Mapping) else set()
        inner = [layer[name] for name in both] if isinstance(layer, Mapping) and names == both else []
        if names != one and not (inner and all(isinstance(i, Mapping) and set(i) == one for i in inner)):
            raise SignatureError(
                f"layer {index} of the cache is not said by its key and value",
                where=where,
                hint="name them 0.key, 0.value, 1.key, ..., or 0.decoder.key, 0.encoder.key, ... of a decoder with an "
                "encoder",
            )
