"""Makes nested dicts of what a module returns, where ``torch.export`` does not know its classes: caches above all.

A decoder returns its cache as an object (``DynamicCache``, or a class of the user's own). Its tensors become outputs
whose names are the path to them, as exporters for ONNX name them: ``past_key_values.0.key``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from dlbridge.frameworks.pytorch.compat import pytree

#: Attributes of caches -> the word for them in names.
_WORDS = {
    "keys": "key",
    "values": "value",
    "self_attention_cache": "decoder",
    "cross_attention_cache": "encoder",
}
#: What models call the caches that they return.
CACHES = frozenset({"cache", "past_key_values", "past_key_value", "past_buckets_states", "cache_params", "mems"})
#: How deep objects may be nested.
_MAX_DEPTH = 8


def plain(result: Any, *, cache: bool = True) -> Any:
    """What a module returned, in classes that ``torch.export`` knows.

    Args:
        result: A tensor, or any nesting of containers and objects that hold tensors.
        cache: Whether caches stay in it.

    Example:
        ``{"logits": t, "past_key_values": DynamicCache(...)}`` becomes
        ``{"logits": t, "past_key_values": {"0": {"key": t, "value": t}}}``.
    """
    if not cache:
        result = _without_caches(result)
    if not any(is_unknown(leaf) for leaf in pytree.tree_leaves(result)):
        return result
    return pytree.tree_map(lambda leaf: _opened(leaf, cache) if is_unknown(leaf) else leaf, result)


def is_unknown(leaf: Any) -> bool:
    """Whether a leaf is an object that may hold tensors."""
    if isinstance(leaf, (torch.Tensor, torch.nn.Module, type)) or callable(leaf):
        return False
    return isinstance(leaf, Mapping) or (hasattr(leaf, "__dict__") and not isinstance(leaf, torch.SymInt))


def _is_cache(value: Any) -> bool:
    return is_unknown(value) and any(base.__name__.endswith("Cache") for base in type(value).__mro__)


def _without_caches(result: Any) -> Any:
    if isinstance(result, Mapping):
        return {name: None if name in CACHES else _without_caches(value) for name, value in result.items()}
    return pytree.tree_map(lambda leaf: None if _is_cache(leaf) else leaf, result)


Path = tuple[str, ...]


def _opened(value: Any, cache: bool) -> Any:
    """The tensors of an object in nested dicts; the object itself where it holds none."""
    found = dict(_tensors(value, cache))
    tree: dict[str, Any] = {}
    for (*around, last), tensor in zip(_names(value, list(found)), found.values(), strict=True):
        place = tree
        for part in around:
            place = place.setdefault(part, {})
        place[last] = tensor
    return tree or value


def _names(value: Any, paths: list[Path]) -> list[Path]:
    """What the tensors of an object are called, of the paths to them."""
    short = [_short(path) if _is_cache(value) else path for path in paths]
    return short if len(set(short)) == len(short) else paths


def paths(value: Any) -> dict[Path, Path]:
    """What each tensor of an object is called -> the attributes, keys and indices that lead to it."""
    found = [path for path, _ in _tensors(value)]
    return dict(zip(_names(value, found), found, strict=True))


def tensors(value: Any) -> list[torch.Tensor]:
    """The tensors of an object."""
    return [tensor for _, tensor in _tensors(value)]


def _tensors(value: Any, cache: bool = True) -> Iterator[tuple[Path, torch.Tensor]]:
    return ((path, part) for path, part in within(value, cache=cache) if isinstance(part, torch.Tensor))


def _short(path: Path) -> Path:
    """``0.decoder.key`` of a cache's ``self_attention_cache.layers.0.keys``."""
    if "layers" in path:
        at = path.index("layers")
        path = (path[at + 1], *path[:at], *path[at + 2 :])
    return tuple(_WORDS.get(part, part) for part in path)


def within(
    value: Any, path: Path = (), *, cache: bool = True, around: frozenset[int] = frozenset()
) -> Iterator[tuple[Path, Any]]:
    """An object and all that it holds, each with the attributes, keys and indices that lead to it."""
    yield path, value
    if len(path) > _MAX_DEPTH or id(value) in around:
        return
    for name, part in _parts(value):
        if cache or not (name in CACHES or _is_cache(part)):
            yield from within(part, (*path, name), cache=cache, around=around | {id(value)})


def _parts(value: Any) -> list[tuple[str, Any]]:
    """What an object holds: items, or attributes that are not private."""
    if isinstance(value, (list, tuple)):
        names = getattr(value, "_fields", range(len(value)))
        return [(str(name), part) for name, part in zip(names, value, strict=True)]
    if isinstance(value, Mapping):
        return [(str(key), part) for key, part in value.items()]
    if not is_unknown(value):
        return []
    return [(name, part) for name, part in vars(value).items() if not name.startswith("_")]
