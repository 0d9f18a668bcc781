"""The functions by which formulas of training are computed: named and called as NumPy's, on PyTorch's tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import one_hot as _one_hot

max, min = torch.amax, torch.amin
expand_dims = torch.unsqueeze


def __getattr__(name: str) -> Any:
    """Everything else is PyTorch's own."""
    return getattr(torch, name)


def maximum(a: Any, b: Any) -> Any:
    if isinstance(b, torch.Tensor):
        return torch.maximum(a, b)
    if isinstance(a, torch.Tensor):
        return torch.clamp(a, min=b)
    return a if a > b else b


def minimum(a: Any, b: Any) -> Any:
    if isinstance(b, torch.Tensor):
        return torch.minimum(a, b)
    if isinstance(a, torch.Tensor):
        return torch.clamp(a, max=b)
    return a if a < b else b


def cast(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The numbers in another tensor's type."""
    return x.to(like.dtype)


def integer(x: torch.Tensor) -> torch.Tensor:
    return x.long()


def count(x: torch.Tensor) -> torch.Tensor:
    """Numbers that are summed up exactly, of what is true or not."""
    return x.double()


def size(x: torch.Tensor) -> float:
    """The number of elements."""
    return float(x.numel())


def sum_type(x: torch.Tensor) -> torch.Tensor:
    """The numbers in the type in which metrics are summed up."""
    return x.double()


def constant(values: Any, like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)


def arange(count: int, like: torch.Tensor) -> torch.Tensor:
    return torch.arange(count, device=like.device)


def one_hot(x: torch.Tensor, count: int) -> torch.Tensor:
    """Rows of 0 and 1, which are summed up exactly."""
    return _one_hot(x.long(), count).double()


def pick(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The number of each label on the last axis."""
    return x.gather(-1, labels.long().unsqueeze(-1)).squeeze(-1)


def take(x: torch.Tensor, places: torch.Tensor, axis: int) -> torch.Tensor:
    return x.index_select(axis, places.long().reshape(-1)).reshape(places.shape)


def take_along_axis(x: torch.Tensor, places: torch.Tensor, axis: int) -> torch.Tensor:
    return x.gather(axis, places.long())


def repeat(x: torch.Tensor, repeats: int, axis: int) -> torch.Tensor:
    return torch.repeat_interleave(x, repeats, dim=axis)


def group_norms(x: torch.Tensor, groups: np.ndarray) -> torch.Tensor:
    """The norm of each element's group, whose number ``groups`` has in its place."""
    numbers = torch.from_numpy(groups.reshape(-1)).to(x.device)
    sums = x.new_zeros(int(groups.max()) + 1).index_add_(0, numbers, x.square().reshape(-1))
    return sums.sqrt()[numbers].reshape(x.shape)
