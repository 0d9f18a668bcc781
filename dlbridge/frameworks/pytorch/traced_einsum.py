"""``torch.einsum`` of three operands and more, as ``torch.export`` traces it.

PyTorch asks the package opt_einsum, where it is installed, in which order to contract them. The package computes with
plain numbers, so a size that has a name would become that of the example. Here it gets the sizes of the example as
numbers, and those of the operands stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch

from dlbridge.frameworks.pytorch import compat


def _einsum(function: Any, equation: str, *operands: Any) -> torch.Tensor:
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if len(operands) <= 2 or not compat.opt_einsum_is_used():
        return function(equation, *operands)
    shapes = [tuple(_example_size(size) for size in operand.shape) for operand in operands]
    return compat.functions.einsum(equation, operands, path=compat.contraction_path(equation, shapes))


def _example_size(size: int | torch.SymInt) -> int:
    """The number that a size has in the example; 2 for one that only a run tells."""
    if isinstance(size, int):
        return size
    return int(size.node.hint) if size.node.has_hint() else 2


#: What is called instead of a PyTorch function while a module is traced.
INSTEAD = {torch.einsum: _einsum}
