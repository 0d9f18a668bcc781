"""Modules that hold others."""

from __future__ import annotations

from flax import nnx


class NumberedModules(nnx.Module):
    """Modules under numbers, with attributes beside them, which ``nnx.List`` cannot have."""

    def __init__(self, modules):
        self.count = len(modules)
        for number, module in enumerate(modules):
            setattr(self, str(number), module)

    def __getitem__(self, number):
        return getattr(self, str(number))

    def __iter__(self):
        return (self[number] for number in range(self.count))
