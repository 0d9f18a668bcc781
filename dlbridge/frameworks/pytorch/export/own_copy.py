"""Copies a module for reading: the copy shares the tensors of the user's module and nothing else."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import torch


def own_copy(module: torch.nn.Module, *, part_buffers: bool = True) -> torch.nn.Module:
    """A copy of a module that shares its tensors; each module of it has its own buffers, on the same memory, but where
    it is to hold them as the user's module does.

    Reading sets a module to eval mode and has some of its parts traced as one op: done to a copy, others who use the
    module meanwhile see nothing of it. A module that cannot be copied (it holds a lock, say) is given back itself.
    """
    tensors = {id(t): t for part in module.modules() for t in _tensors(vars(part))}
    try:
        copied = copy.deepcopy(module, tensors)
    except Exception:  # whatever the module holds may say in its own way that it is not to be copied
        return module
    if part_buffers:
        _part_buffers(copied)
    return copied


def _part_buffers(module: torch.nn.Module) -> None:
    """Give each module a tensor of its own for a buffer that others hold too.

    torch.export calls one tensor by one name, wherever it is read: modules that are alike would not be read alike.
    """
    seen: set[int] = set()
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if id(buffer) in seen:
                setattr(part, name, buffer.detach())
            seen.add(id(buffer))


def are_shared(module: torch.nn.Module, buffers: Collection[str]) -> bool:
    """Whether one of these buffers is one tensor with a buffer of another name."""
    held = dict(module.named_buffers(remove_duplicate=False))
    counts = Counter(map(id, held.values()))
    return any(counts[id(held[name])] > 1 for name in buffers if name in held)


def _tensors(item: Any, depth: int = 3) -> Iterator[torch.Tensor]:
    """The tensors in attributes, and in lists and dicts in them."""
    if isinstance(item, torch.Tensor):
        yield item
    elif depth and isinstance(item, dict):
        for one in item.values():
            yield from _tensors(one, depth - 1)
    elif depth and isinstance(item, (list, tuple)):
        for one in item:
            yield from _tensors(one, depth - 1)
