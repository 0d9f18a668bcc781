"""Keeps layers that act in training alone while ``torch.export`` traces a module in eval mode.

Drop path and noise are modules whose forward then hands its input on, of which the tracer sees nothing. So they call an
op of our own meanwhile, which says what they do in training. Dropouts of torch itself are traced as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any
from unittest import mock

import torch

from dlbridge.frameworks.pytorch.export import own_ops
from dlbridge.frameworks.pytorch.helpers import dropout

own_ops.define(
    "training_only(Tensor input, str kind, float amount, int[] axes) -> Tensor",
    lambda x, kind, amount, axes: x.clone(),
    lambda x, kind, amount, axes: x.new_empty(x.shape),
)

#: Classes that the writer prints -> their op.
_PRINTED = {
    dropout.BroadcastDropout: "BroadcastDropout",
    dropout.BroadcastAlphaDropout: "AlphaDropout",
    dropout.GaussianDropout: "GaussianDropout",
    dropout.GaussianNoise: "GaussianNoise",
}


@contextlib.contextmanager
def kept(module: torch.nn.Module) -> Iterator[None]:
    """Within the block, submodules that act in training only are traced as one op each."""
    with contextlib.ExitStack() as stack:
        for part in module.modules():
            if _training_op(part, 0) is not None:
                stack.enter_context(mock.patch.object(part, "forward", _forward(part)))
        yield


def _training_op(part: torch.nn.Module, rank: int) -> tuple[str, float, list[int]] | None:
    """(op, amount, axes) of a drop path or noise layer for an input of that rank; None for other modules.

    Drop path has many authors, who agree on the names: ``DropPath`` (timm), ``SwinDropPath`` and the like
    (transformers), ``StochasticDepth`` (torchvision).
    """
    if any(True for _ in (*part.parameters(), *part.buffers(), *part.children())):
        return None
    name = type(part).__name__
    if name.endswith("DropPath") or name == "StochasticDepth":
        ratio = getattr(part, "drop_prob", getattr(part, "p", None))
        if not isinstance(ratio, (int, float)) or not ratio or not getattr(part, "scale_by_keep", True):
            return None  # without the scale it is another distribution, for which there is no op here
        first = 0 if getattr(part, "mode", "row") == "batch" else 1
        return "BroadcastDropout", float(ratio), list(range(first, rank))
    for printed, kind in _PRINTED.items():
        if printed.__name__ == name and _code(printed) == _code(type(part)):
            amount: Any = part.stddev if kind == "GaussianNoise" else part.p
            return kind, float(amount), list(getattr(part, "axes", ()))
    return None


def _code(kind: type) -> tuple[Any, ...]:
    """The code of a class's ``forward``, to tell it from another class of the same name."""
    found = kind.forward.__code__  # type: ignore[attr-defined]
    return found.co_code, found.co_names, [c for c in found.co_consts if not isinstance(c, CodeType)]


def _forward(part: torch.nn.Module) -> Callable[..., torch.Tensor]:
    def forward(*args: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
        (x,) = (*args, *kwargs.values())
        found = _training_op(part, x.dim())
        assert found is not None
        return torch.ops.dlbridge.training_only(x, *found)

    return forward
