"""Regularizers, which add to the loss, and constraints, which change a weight after a step (``ops.regularization``)."""

from __future__ import annotations

import torch

from dlbridge.ops.regularization import EPSILON
from dlbridge.source.regularized import Regularized


class Regularizing:
    """The formulas, for one parameter."""

    def __init__(self, regularized: Regularized) -> None:
        self._penalty, self._limit = regularized.penalty, regularized.limit
        groups = regularized.groups
        self._groups = None if groups is None else torch.from_numpy(groups.reshape(-1))

    def penalty(self, w: torch.Tensor) -> torch.Tensor:
        """What is added to the loss."""
        total = w.new_zeros(())
        if self._penalty is not None and self._penalty.l1:
            total = total + self._penalty.l1 * w.abs().sum()
        if self._penalty is not None and self._penalty.l2:
            total = total + self._penalty.l2 * w.square().sum()
        return total

    def limit(self, w: torch.Tensor) -> None:
        """Make the weight fulfil its limit, in place."""
        kept = self._limit
        if kept is None:
            return
        if self._groups is None:
            w.clamp_(min=0)
            return
        sums = w.new_zeros(int(self._groups.max()) + 1).index_add_(0, self._groups, w.square().reshape(-1))
        norms = sums.sqrt()[self._groups].reshape(w.shape)
        wanted = kept.rate * norms.clamp(kept.low, kept.high) + (1 - kept.rate) * norms
        w.mul_(wanted / (norms + EPSILON))
