"""The optimizers of a specification: PyTorch's own classes where they compute the formula, else the formula itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.arrays import to_tensor
from dlbridge.frameworks.pytorch.training import functions as ops


@dataclass(frozen=True)
class Own:
    """A class of PyTorch that computes the formula of a specification's optimizer.

    Attributes:
        kind: The class.
        arguments: Its argument -> the specification's name, or two of them.
        slots: The neutral name of what it remembers -> its own.
        is_decoupled: Whether its weight decay is; else it is coupled.
    """

    kind: type[torch.optim.Optimizer]
    arguments: Mapping[str, str | tuple[str, str]] = field(default_factory=dict)
    slots: Mapping[str, str] = field(default_factory=dict)
    is_decoupled: bool = False

    def given(self, spec: Any) -> dict[str, Any]:
        """The numbers of a specification, by the class' arguments."""
        return {
            name: getattr(spec, of) if isinstance(of, str) else tuple(getattr(spec, part) for part in of)
            for name, of in self.arguments.items()
        }


_BETAS: dict[str, str | tuple[str, str]] = {"betas": ("beta_1", "beta_2"), "eps": "epsilon"}
_MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}
#: The specification's name of an optimizer -> PyTorch's class. Those that are missing PyTorch lacks (Lion, LAMB) or
#: computes in another way: Muon iterates in bfloat16, Adafactor divides kernels into rows and columns.
OWN = {
    "sgd": Own(
        torch.optim.SGD,
        {"momentum": "momentum", "dampening": "dampening", "nesterov": "nesterov"},
        {"momentum": "momentum_buffer"},
    ),
    "adam": Own(torch.optim.Adam, _BETAS | {"amsgrad": "amsgrad"}, _MOMENTS | {"v_max": "max_exp_avg_sq"}),
    "adamw": Own(torch.optim.AdamW, _BETAS | {"amsgrad": "amsgrad"}, _MOMENTS | {"v_max": "max_exp_avg_sq"}, True),
    "nadam": Own(torch.optim.NAdam, _BETAS | {"momentum_decay": "momentum_decay"}, _MOMENTS),
    "radam": Own(torch.optim.RAdam, _BETAS, _MOMENTS),
    "adamax": Own(torch.optim.Adamax, _BETAS, {"m": "exp_avg", "u": "exp_inf"}),
    "adagrad": Own(
        torch.optim.Adagrad,
        {"lr_decay": "learning_rate_decay", "initial_accumulator_value": "initial_sum", "eps": "epsilon"},
        {"sum": "sum"},
    ),
    "adadelta": Own(torch.optim.Adadelta, {"rho": "rho", "eps": "epsilon"}, {"v": "square_avg", "steps": "acc_delta"}),
    "rmsprop": Own(
        torch.optim.RMSprop,
        {"alpha": "rho", "momentum": "momentum", "centered": "centered", "eps": "epsilon"},
        {"v": "square_avg", "m": "grad_avg", "momentum": "momentum_buffer"},
    ),
}

Slots = dict[str, dict[str, torch.Tensor]]


class OwnOptimizer:
    """Trains by a class of PyTorch's."""

    def __init__(self, spec: Any, parameters: Mapping[str, torch.nn.Parameter], weights: Mapping[str, Any]) -> None:
        self.spec, self.parameters, self.own = spec, parameters, OWN[spec.kind]
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for key, parameter in parameters.items():
            groups.setdefault((weights[key].rate, weights[key].decay), []).append(parameter)
        self.is_by_class = (spec.decay == "decoupled") == self.own.is_decoupled
        self._rates = [rate for rate, _ in groups]
        self._decays = [0.0 if self.is_by_class else decay for _, decay in groups]
        given = [
            {"params": held, "weight_decay": decay if self.is_by_class else 0.0} for (_, decay), held in groups.items()
        ]
        self.optimizer = self.own.kind(given, lr=spec.learning_rate, **self.own.given(spec))  # type: ignore[call-arg]

    def restore(self, slots: Mapping[str, Mapping[str, np.ndarray]], step: int) -> None:
        """Take over what a checkpoint remembers after so many steps."""
        if self.spec.kind == "nadam" and not step:  # else it multiplies in float32
            for parameter in self.parameters.values():
                state = {theirs: torch.zeros_like(parameter) for theirs in self.own.slots.values()}
                self.optimizer.state[parameter] = state | self._counted(step)
        for key, parameter in self.parameters.items():
            held = {
                self.own.slots[slot]: to_tensor(arrays[key]).to(self.parameters[key].device)
                for slot, arrays in slots.items()
                if key in arrays
            }
            if held and step:
                self.optimizer.state[parameter].update(held | self._counted(step))
            elif step and not self.spec.slots:
                self.optimizer.state[parameter].update(self._counted(step))

    def _counted(self, step: int) -> dict[str, torch.Tensor]:
        counted = {"step": torch.tensor(float(step))}
        if self.spec.kind == "nadam":
            counted["mu_product"] = torch.tensor(self.spec.product(step), dtype=torch.float64)
        return counted if self.spec.kind != "sgd" else {}

    def step(self, n: Mapping[str, float]) -> None:
        """One step, by the numbers of the specification."""
        for group, rate, decay in zip(self.optimizer.param_groups, self._rates, self._decays, strict=True):
            group["lr"] = n["rate"] * rate
            if decay and self.spec.decay == "decoupled":
                with torch.no_grad():
                    compat.foreach_mul(group["params"], 1 - group["lr"] * decay)
            elif decay:
                for parameter in group["params"]:
                    parameter.grad.add_(parameter.detach(), alpha=decay)
        self.optimizer.step()

    def slots(self) -> Slots:
        """What is remembered, by slot and key."""
        found: Slots = {}
        for slot in self.spec.slots:
            theirs = self.own.slots[slot]
            held = {k: self.optimizer.state[p].get(theirs) for k, p in self.parameters.items()}
            found[slot] = {k: tensor for k, tensor in held.items() if tensor is not None}
        return found


class FormulaOptimizer:
    """Trains by the formula of the specification, one weight after the other."""

    def __init__(self, spec: Any, parameters: Mapping[str, torch.nn.Parameter], weights: Mapping[str, Any]) -> None:
        self.spec, self.parameters, self.weights = spec, parameters, weights
        self.state = {
            key: {
                slot: torch.full(
                    spec.slot_shape(slot, tuple(p.shape), weights[key]), spec.start, dtype=p.dtype, device=p.device
                )
                for slot in spec.slots_of(weights[key])
            }
            for key, p in parameters.items()
        }

    def restore(self, slots: Mapping[str, Mapping[str, np.ndarray]], step: int) -> None:
        """Take over what a checkpoint remembers after so many steps."""
        for slot, arrays in slots.items():
            for key, array in arrays.items():
                self.state[key][slot] = to_tensor(array).to(self.parameters[key].device)

    @torch.no_grad()
    def step(self, n: Mapping[str, float]) -> None:
        """One step, by the numbers of the specification."""
        for key, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            held = self.state[key]
            value, kept = self.spec.step(parameter.grad, parameter, held, n, self.weights[key], ops)
            parameter.copy_(value)
            held.update(kept)

    def slots(self) -> Slots:
        """What is remembered, by slot and key."""
        return {slot: {k: held[slot] for k, held in self.state.items() if slot in held} for slot in self.spec.slots}


def optimizer(
    spec: Any, parameters: Mapping[str, torch.nn.Parameter], weights: Mapping[str, Any]
) -> OwnOptimizer | FormulaOptimizer:
    """The optimizer of a specification, for the parameters that train."""
    return (OwnOptimizer if spec.kind in OWN else FormulaOptimizer)(spec, parameters, weights)


@torch.no_grad()
def clip(spec: Any, parameters: Iterable[torch.nn.Parameter]) -> None:
    """Clip the gradients in place, as the specification says."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if spec.value is not None:
        compat.foreach_clamp_min(gradients, -spec.value)
        compat.foreach_clamp_max(gradients, spec.value)
        return
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    if norm > spec.norm:
        compat.foreach_mul(gradients, spec.norm / norm)
