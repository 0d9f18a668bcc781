"""The optimizers that see a weight as a matrix: by its norm, by its rows and columns, by its singular vectors.

The symbols are those of ``dlbridge.training.formulas.optimizers``.
"""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

from pydantic import Field

from dlbridge.training.formulas.optimizer_part import (
    Beta,
    Decay,
    Moments,
    Numbers,
    OptimizerPart,
    Positive,
    Rate,
    Slots,
    Weight,
)
from dlbridge.training.parts import Ops, Tensor


class LAMB(Moments):
    """Adam's step with ``weight_decay w`` added, scaled for each matrix or kernel by ``|w| / |step|`` (1 where either
    is 0); vectors are not scaled.

    Source: You et al., Large Batch Optimization for Deep Learning, 2020.
    """

    kind: Literal["lamb"]
    decay: Literal["decoupled"] = "decoupled"

    of_whole_weights: ClassVar[bool] = True

    def step(self, g: Tensor, w: Tensor, slots: Slots, n: Numbers, weight: Weight, ops: Ops) -> tuple[Tensor, Slots]:
        m, v = self._moments(g, slots)
        slots, rate = {"m": m, "v": v}, n["rate"] * weight.rate
        step, decay = m / n["c1"] / (ops.sqrt(v / n["c2"]) + self.epsilon), weight.decay * w
        if weight.is_vector or sum(size > 1 for size in w.shape) <= 1:
            return w - rate * (weight.count * step + decay), slots
        step = step + decay
        length, of_step = ops.sqrt(ops.sum(w * w)), ops.sqrt(ops.sum(step * step))
        is_zero = (length * of_step) == 0
        scale = ops.where(is_zero, ops.ones_like(length), length / ops.where(is_zero, 1 + of_step, of_step))
        return w - rate * scale * step, slots


class Adafactor(OptimizerPart):
    """``b = t^beta_2_decay``; of a matrix, the means of ``g^2`` over columns and over rows are kept:
    ``R += b (mean - R)``, ``C`` alike, and ``v = R C / max(mean R, eps_1)``; of all else ``v += b (g^2 - v)``.
    ``u = g / sqrt(max(v, eps_1^2))``; ``w -= min(rate, 1 / sqrt(t)) max(eps_2, rms(w)) u / max(1, rms(u) / clip)``.

    Source: Shazeer & Stern, Adafactor, 2018 (as ``torch.optim.Adafactor``, which divides kernels of convolutions into
    rows and columns too).
    """

    kind: Literal["adafactor"]
    learning_rate: Rate = 0.01
    beta_2_decay: float = Field(-0.8, lt=0)
    epsilon_1: Positive = 1e-7
    epsilon_2: Positive = 1e-3
    clip: Positive = 1.0
    decay: Literal["decoupled"] = "decoupled"

    of_whole_weights: ClassVar[bool] = True
    of_whole_vectors: ClassVar[bool] = True

    kept_slots: ClassVar[tuple[str, ...]] = ("row", "column", "v")

    def slots_of(self, weight: Weight) -> tuple[str, ...]:
        return ("row", "column") if weight.axes is not None else ("v",)

    def slot_shape(self, slot: str, shape: tuple[int, ...], weight: Weight) -> tuple[int, ...]:
        if weight.axes is None:
            return shape
        along = weight.axes[1 if slot == "row" else 0]
        return tuple(1 if axis == along else size for axis, size in enumerate(shape))

    def numbers(self, t: int) -> dict[str, float]:
        return {"new": t**self.beta_2_decay, "limit": 1 / math.sqrt(t)}

    def delta(self, g, w, slots, n, rate, weight, ops):  # type: ignore[no-untyped-def]
        new, squares = n["new"], g * g
        if weight.axes is not None:
            rows, columns = weight.axes
            row = slots["row"] + new * (ops.mean(squares, axis=columns, keepdims=True) - slots["row"])
            column = slots["column"] + new * (ops.mean(squares, axis=rows, keepdims=True) - slots["column"])
            v = row * column / ops.maximum(ops.mean(row, axis=rows, keepdims=True), self.epsilon_1)
            kept = {"row": row, "column": column}
        else:
            v = slots["v"] + new * (squares - slots["v"])
            kept = {"v": v}
        u = g / ops.sqrt(ops.maximum(v, self.epsilon_1**2))
        scale = ops.minimum(rate, n["limit"]) * ops.maximum(_rms(w, ops), self.epsilon_2)
        return scale * u / ops.maximum(_rms(u, ops) / self.clip, 1.0), kept


class Muon(Moments):
    """Of a matrix: ``m = momentum m + (1 - momentum) g``, with Nesterov ``d = (1 - momentum) g + momentum m``, else
    ``d = m``; ``w -= 0.2 sqrt(max(rows, columns)) rate O(d)``, where ``O`` makes the singular values about 1 by five
    steps of Newton-Schulz. All else, and what ``by_adamw`` names, is trained by AdamW.

    Source: Jordan et al., Muon, 2024; Liu et al., Muon is Scalable for LLM Training, 2025, for the factor (as
    ``torch.optim.Muon(adjust_lr_fn="match_rms_adamw")``, which iterates in bfloat16).
    """

    kind: Literal["muon"]
    weight_decay: Decay = 0.1
    decay: Literal["decoupled"] = "decoupled"
    momentum: Beta = 0.95
    nesterov: bool = True
    steps: int = Field(5, ge=1, le=20)
    by_adamw: tuple[str, ...] = Field((), description="Names of matrices that AdamW trains: '*embedding*'.")

    of_whole_weights: ClassVar[bool] = True
    #: Coefficients of the iteration: of x, x^3 and x^5.
    coefficients: ClassVar[tuple[float, float, float]] = (3.4445, -4.7750, 2.0315)

    def of(self, names: tuple[str, ...], axes: tuple[int, int] | None = None) -> Weight:
        weight = super().of(names, axes)
        by_adamw = any(fnmatchcase(n, pattern) for n in names for pattern in self.by_adamw)
        return Weight(weight.rate, weight.decay, False, axes, weight.count, by_matrix=not by_adamw)

    def slots_of(self, weight: Weight) -> tuple[str, ...]:
        return ("m",) if weight.axes is not None and weight.by_matrix else ("m", "v")

    def delta(self, g, w, slots, n, rate, weight, ops):  # type: ignore[no-untyped-def]
        if weight.axes is None or not weight.by_matrix:
            m, v = self._moments(g, slots)
            return rate / n["c1"] * m / (ops.sqrt(v / n["c2"]) + self.epsilon), {"m": m, "v": v}
        m = self.momentum * slots["m"] + (1 - self.momentum) * g
        d = (1 - self.momentum) * g + self.momentum * m if self.nesterov else m
        shape = tuple(int(size) for size in w.shape)
        rows, columns = (size for size in shape if size > 1)
        step = ops.reshape(self._orthogonal(ops.reshape(d, (rows, columns)), ops), shape)
        return rate * (0.2 * math.sqrt(max(rows, columns))) * step, {"m": m}

    def _orthogonal(self, x: Tensor, ops: Ops) -> Tensor:
        """The matrix with singular values of about 1; the smaller side is multiplied by itself."""
        is_tall = x.shape[0] > x.shape[1]
        x = ops.swapaxes(x, 0, 1) if is_tall else x
        x = x / ops.maximum(ops.sqrt(ops.sum(x * x)), self.epsilon)
        a, b, c = self.coefficients
        for _ in range(self.steps):
            square = ops.matmul(x, ops.swapaxes(x, 0, 1))
            x = a * x + ops.matmul(b * square + c * ops.matmul(square, square), x)
        return ops.swapaxes(x, 0, 1) if is_tall else x


def _rms(x: Tensor, ops: Ops) -> Tensor:
    return ops.sqrt(ops.mean(x * x))
