"""The optimizers, each by its formula: the state that is kept for each weight, and what one step subtracts from it.

Every framework computes these formulas. ``g`` is the gradient, ``w`` the weight, ``t`` the number of the step (from 1)
and ``rate`` the learning rate of that step. What depends on ``t`` alone is computed once, in Python (``numbers``); what
depends on the weight is computed by the framework (``delta``), or by a class of the framework that computes the same.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from dlbridge.training.formulas.matrix_optimizers import LAMB, Adafactor, Muon
from dlbridge.training.formulas.optimizer_part import Beta, Decay, Moments, OptimizerPart, Positive, Rate


class SGD(OptimizerPart):
    """``v = momentum v + (1 - dampening) g``, at the first step ``v = g``; ``w -= rate v``, with Nesterov
    ``w -= rate (g + momentum v)``.

    Source: ``torch.optim.SGD``. (Keras keeps ``-rate v``; for a constant learning rate it is the same.)
    """

    kind: Literal["sgd"]
    learning_rate: Rate = 0.01
    momentum: Beta = 0.0
    nesterov: bool = False
    dampening: float = Field(0.0, ge=0, lt=1)

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    @model_validator(mode="after")
    def _check_momentum(self) -> SGD:
        if self.nesterov and (self.momentum == 0 or self.dampening):
            raise ValueError("nesterov needs a momentum larger than 0, and no dampening")
        if self.dampening and not self.momentum:
            raise ValueError("dampening is of the momentum, which is 0")
        return self

    def numbers(self, t: int) -> dict[str, float]:
        return {"new": 1.0 if t == 1 else 1.0 - self.dampening}

    def delta(self, g, w, slots, n, rate, weight, ops):  # type: ignore[no-untyped-def]
        if not self.momentum:
            return rate * g, {}
        v = self.momentum * slots["momentum"] + (g if not self.dampening else n["new"] * g)
        return rate * (g + self.momentum * v if self.nesterov else v), {"momentum": v}


class Adam(Moments):
    """``m = b1 m + (1 - b1) g``; ``v = b2 v + (1 - b2) g^2``; ``w -= rate m' / (sqrt(v') + eps)``, with the moments
    corrected for their start at zero: ``m' = m / (1 - b1^t)``, ``v' = v / (1 - b2^t)``. With ``amsgrad``, ``v'`` is of
    the largest ``v`` so far.

    Source: Kingma & Ba, Adam: A Method for Stochastic Optimization, 2015, algorithm 1; Reddi et al., On the Convergence
    of Adam and Beyond, 2018 (as ``torch.optim.Adam``).
    """

    kind: Literal["adam"]
    amsgrad: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        return ("m", "v", "v_max") if self.amsgrad else ("m", "v")

    def delta(self, g, w, slots, n, rate, weight, ops):  # type: ignore[no-untyped-def]
        m, v = self._moments(g, slots)
        largest = {"v_max": ops.maximum(slots["v_max"], v)} if self.amsgrad else {}
        root = ops.sqrt(largest.get("v_max", v) / n["c2"])
        return rate / n["c1"] * m / (root + self.epsilon), {"m": m, "v": v, **largest}


class AdamW(Adam):
    """Adam, with ``w -= rate weight_decay w`` before each step.

    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization, 2019 (as ``torch.optim.AdamW``).
    """

    kind: Literal["adamw"]  # type: ignore[assignment]
    weight_decay: Decay = 0.004
    decay: Literal["decoupled"] = "decoupled"


class NAdam(Moments):
    """Adam with Nesterov's momentum: ``w -= rate (1 - u_t) g / ((1 - U_t) s) + rate u_(t+1) m / ((1 - U_(t+1)) s)``,
    with ``u_t = b1 (1 - 0.96^(t momentum_decay) / 2)``, ``U_t`` the product of all ``u`` up to ``u_t``, and
    ``s = sqrt(v / (1 - b2^t)) + eps``.

    Source: Dozat, Incorporating Nesterov Momentum into Adam, 2016 (as ``torch.optim.NAdam``).
    """

    kind: Literal["nadam"]
    learning_rate: Rate = 0.002
    momentum_decay: float = Field(0.004, ge=0)

    def product(self, t: int) -> float:
        """``U_t``."""
        product = 1.0
        for i in range(1, t + 1):
            product *= self._u(i)
            if product < 1e-20:  # which makes no difference to 1
                return 0.0
        return product

    def _u(self, t: int) -> float:
        return self.beta_1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def numbers(self, t: int) -> dict[str, float]:
        now, following = self._u(t), self._u(t + 1)
        product = self.product(t)
        return {
            "g": (1 - now) / (1 - product),
            "m": following / (1 - product * following),
            "c2": 1 - self.beta_2**t,
        }

    def delta(self, g, w, slots, n, rate, weight, ops):  # type: ignore[no-untyped-def]
        m, v = self._moments(g, slots)
        root = ops.sqrt(v / n["c2"]) + self.epsilon
        return rate * (n["g"] * g + n["m"] * m) / root, {"m": m, "v": v}


class RAdam(Moments):
    """Adam, rectified while ``v`` is of few gradients: ``w -= rate r_t m' sqrt(1 - b2^t) / (sqrt(v) + eps)``
    where ``p_t > 5``, else ``w -= rate m'``. ``p = 2 / (1 - b2) - 1``; ``p_t = p - 2 t b2^t / (1 - b2^t)``;
    ``r_t^2 = (p_t - 4)(p_t - 2) p / ((p - 4)(p - 2) p_t)``.

    Source: Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, 2020 (as ``torch.optim.RAdam``).
    """

    kind: Literal["radam"]

    def numbers(self, t: int) -> dict[str, float]:
        c1, c2 = 1 - self.beta_1**t, 1 - self.beta_2**t
        limit = 2 / (1 - self.beta_2) - 1
        length = limit - 2 * t * self.beta_2**t / c2
        if length <= 5:
            return {"plain": 1 / c1, "adaptive": 0.0}
        rectified = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
        return {"plain": 0.0, "adaptive": math.sqrt(rectified * c2) / c1}

    def delta(self, g, w, slots, n, rate, weight, ops):  # type: ignore[no-untyped-def]
        m, v = self._moments(g, slots)
        return rate * m * (n["plain"] + n["adaptive"] / (ops.sqrt(v) + self.epsilon)), {"m": m, "v": v}


class Adamax(Moments):
    """``m = b1 m + (1 - b1) g``; ``u = max(b2 u, |g| + eps)``; ``w -= rate m / ((1 - b1^t) u)``.

    Source: Kingma & Ba, 2015, algorithm 2 (epsilon as in ``torch.optim.Adamax``).
    """

    kind: Literal["adamax"]
    learning_rate: Rate = 0.002

    kept_slots: ClassVar[tuple[str, ...]] = ("m", "u")

    def delta(self, g, w, slots, n, rate, weight, ops):  # type: ignore[no-untyped-def]
        m = self.beta_1 * slots["m"] + (1 - self.beta_1) * g
        u = ops.maximum(self.beta_2 * slots["u"], ops.abs(g) + self.epsilon)
        return rate / n["c1"] * m / u, {"m": m, "u": u}


class Adagrad(OptimizerPart):
    """``s = s + g^2``; ``w -= rate / (1 + (t - 1) learning_rate_decay) g / (sqrt(s) + eps)``.

    Source: Duchi et al., Adaptive Subgradient Methods, 2011 (as ``torch.optim.Adagrad``).
    """

    kind: Literal["adagrad"]
    learning_rate: Rate = 0.01
    learning_rate_decay: float = Field(0.0, ge=0)
    initial_sum: float = Field(0.0, ge=0)
    epsilon: Positive = 1e-7

    kept_slots: ClassVar[tuple[str, ...]] = ("sum",)

    @property
    def start(self) -> float:
        return self.initial_sum

    def numbers(self, t: int) -> dict[str, float]:
        return {"decayed": 1 / (1 + (t - 1) * self.learning_rate_decay)}

    def delta(self, g, w, slots, n, rate, weight, ops):  # type: ignore[no-untyped-def]
        total = slots["sum"] + g * g
        return rate * n["decayed"] * g / (ops.sqrt(total) + self.epsilon), {"sum": total}


class Adadelta(OptimizerPart):
    """``v = rho v + (1 - rho) g^2``; ``d = sqrt(a + eps) / sqrt(v + eps) g``; ``a = rho a + (1 - rho) d^2``;
    ``w -= rate d``.

    Source: Zeiler, ADADELTA: An Adaptive Learning Rate Method, 2012 (as ``torch.optim.Adadelta``).
    """

    kind: Literal["adadelta"]
    learning_rate: Rate = 1.0
    rho: Beta = 0.9
    epsilon: Positive = 1e-6

    kept_slots: ClassVar[tuple[str, ...]] = ("v", "steps")

    def delta(self, g, w, slots, n, rate, weight, ops):  # type: ignore[no-untyped-def]
        v = self.rho * slots["v"] + (1 - self.rho) * g * g
        step = ops.sqrt(slots["steps"] + self.epsilon) / ops.sqrt(v + self.epsilon) * g
        return rate * step, {"v": v, "steps": self.rho * slots["steps"] + (1 - self.rho) * step * step}


class RMSprop(OptimizerPart):
    """``v = rho v + (1 - rho) g^2``; ``d = g / (sqrt(v) + eps)``, with ``centered`` of ``v - m^2`` where
    ``m = rho m + (1 - rho) g``; ``w -= rate d``, with momentum ``b = momentum b + d``, ``w -= rate b``.

    Source: Tieleman & Hinton, Lecture 6.5, 2012; Graves, 2013, for the centered one (as ``torch.optim.RMSprop``).
    """

    kind: Literal["rmsprop"]
    rho: Beta = 0.9
    momentum: Beta = 0.0
    centered: bool = False
    epsilon: Positive = 1e-7

    @property
    def slots(self) -> tuple[str, ...]:
        return ("v", *(("m",) if self.centered else ()), *(("momentum",) if self.momentum else ()))

    def delta(self, g, w, slots, n, rate, weight, ops):  # type: ignore[no-untyped-def]
        kept = {"v": self.rho * slots["v"] + (1 - self.rho) * g * g}
        squares = kept["v"]
        if self.centered:
            kept["m"] = self.rho * slots["m"] + (1 - self.rho) * g
            squares = squares - kept["m"] * kept["m"]
        step = g / (ops.sqrt(squares) + self.epsilon)
        if self.momentum:
            kept["momentum"] = step = self.momentum * slots["momentum"] + step
        return rate * step, kept


class Lion(OptimizerPart):
    """``w -= rate sign(b1 m + (1 - b1) g)``; ``m = b2 m + (1 - b2) g``.

    Source: Chen et al., Symbolic Discovery of Optimization Algorithms, 2023.
    """

    kind: Literal["lion"]
    learning_rate: Rate = 0.0001
    beta_1: Beta = 0.9
    beta_2: Beta = 0.99
    decay: Literal["decoupled"] = "decoupled"

    kept_slots: ClassVar[tuple[str, ...]] = ("m",)

    def delta(self, g, w, slots, n, rate, weight, ops):  # type: ignore[no-untyped-def]
        m = slots["m"]
        step = ops.sign(self.beta_1 * m + (1 - self.beta_1) * g)
        return rate * step, {"m": self.beta_2 * m + (1 - self.beta_2) * g}


Optimizer = Annotated[
    SGD | Adam | AdamW | NAdam | RAdam | Adamax | Adagrad | Adadelta | RMSprop | Lion | LAMB | Adafactor | Muon,
    Field(discriminator="kind"),
]
#: The optimizers, in the order in which the documentation has them.
OPTIMIZERS: tuple[type[OptimizerPart], ...] = (
    *(SGD, Adam, AdamW, NAdam, RAdam, Adamax, Adagrad, Adadelta, RMSprop, Lion, LAMB, Adafactor, Muon),
)
