"""Losses as ``torch.export`` traces them: in ops of which a reader knows what they compute.

``F.ctc_loss``, for which torch.export has no shapes, becomes an op of our own on targets in rows and lengths in
tensors, with its reduction behind it. ``F.linear_cross_entropy`` in chunks, an op that computes its gradients beside
its loss to save memory, becomes the same loss without chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from dlbridge.frameworks.pytorch.export import own_ops

_own_ctc_loss = F.ctc_loss


def _run(x: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int, zero_infinity: bool) -> Any:
    return _own_ctc_loss(x, targets, input_lengths, target_lengths, blank, "none", zero_infinity)


own_ops.define(
    "ctc_loss(Tensor x, Tensor targets, Tensor input_lengths, Tensor target_lengths, int blank, bool zero_infinity)"
    " -> Tensor",
    _run,
    lambda x, *_: x.new_empty((x.shape[1],)),
)


def _ctc_loss(
    function: Any,
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: torch.Tensor | Sequence[int],
    target_lengths: torch.Tensor | Sequence[int],
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> torch.Tensor:
    """``F.ctc_loss`` of one sequence or several, with targets in rows or concatenated."""
    is_one = log_probs.dim() == 2
    x = log_probs.unsqueeze(1) if is_one else log_probs
    given, wanted = (torch.as_tensor(n).reshape(-1).long() for n in (input_lengths, target_lengths))
    if is_one:
        targets = targets.reshape(1, -1)
    elif targets.dim() == 1:
        starts = (wanted.cumsum(0) - wanted).unsqueeze(1)
        places = starts + torch.arange(targets.shape[0])
        targets = targets[places.clamp(max=targets.shape[0] - 1)]
    loss = torch.ops.dlbridge.ctc_loss(x, targets.long(), given, wanted, blank, zero_infinity)
    if reduction == "mean":
        return (loss / wanted.clamp(min=1)).mean()
    if reduction == "sum":
        loss = loss.sum()
    return loss.squeeze(0) if is_one and reduction == "none" else loss


def _whole(function: Any, *args: Any, **kwargs: Any) -> Any:
    """``F.linear_cross_entropy`` without chunks."""
    return function(*args, **{**kwargs, "options": None})


def _gaussian_nll_loss(
    function: Any,
    input: torch.Tensor,
    target: torch.Tensor,
    var: torch.Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> torch.Tensor:
    """``F.gaussian_nll_loss`` without the question whether a variance is negative."""
    if not isinstance(var, torch.Tensor):
        return function(input, target, var, full, eps, reduction)
    if var.dim() == input.dim() - 1:
        var = var.unsqueeze(-1)
    bounded = var + (var.clamp(min=eps) - var).detach()
    loss = 0.5 * (torch.log(bounded) + (input - target) ** 2 / bounded)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return loss if reduction == "none" else getattr(loss, reduction)()


#: PyTorch function -> what is called instead while a module is traced.
INSTEAD: dict[Any, Callable[..., Any]] = {
    _own_ctc_loss: _ctc_loss,
    F.linear_cross_entropy: _whole,
    F.gaussian_nll_loss: _gaussian_nll_loss,
}
