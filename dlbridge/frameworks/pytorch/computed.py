"""What PyTorch itself computes of constants: tables of frequencies and positions, as the original has them.

Two libraries' ``exp`` differ in the last bits. That is nothing in an activation, but a table of frequencies that is
multiplied by a time step of 1000000 turns it into another angle. So such a table is computed once, by the op that the
original calls, and constant folding (``passes.fold``) takes its numbers.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch

from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.arrays import to_array
from dlbridge.frameworks.pytorch.compat import pytree
from dlbridge.frameworks.pytorch.fx_schema import plain_name
from dlbridge.frameworks.pytorch.tensors import DTYPES
from dlbridge.passes.fold import COMPUTED

#: A result with more elements than this is left to the graph.
_MAX_ELEMENTS = 1 << 20


class Computed:
    """The constants of a program, and what is computed of them alone, as tensors of PyTorch."""

    def __init__(self) -> None:
        self._tensors: dict[ir.Value, torch.Tensor] = {}

    def note(self, value: ir.Value, tensor: torch.Tensor) -> None:
        """A constant and its numbers."""
        if tensor.device.type == "cpu":
            self._tensors[value] = tensor.detach()

    def run(self, target: Any, args: Any, kwargs: Any, val: Any, made: Any) -> None:
        """Run an op whose tensors are all constants, and keep its numbers with the value that its rule made.

        Args:
            target: The ATen op.
            args: Its arguments, with values in place of tensors.
            kwargs: Those by keyword.
            val: What PyTorch knows of the result.
            made: The rule's value for the result.
        """
        if not isinstance(made, ir.Value) or made in self._tensors:
            return
        if not _is_fixed(val) or not _is_function(target):
            return
        leaves = pytree.tree_leaves((args, kwargs))
        if any(isinstance(leaf, ir.Value) and leaf not in self._tensors for leaf in leaves):
            return
        if not all(leaf is None or isinstance(leaf, _PLAIN) for leaf in leaves):
            return  # a size that is not known yet
        args, kwargs = pytree.tree_map(self._tensor, (args, kwargs))
        with torch.no_grad():
            result = target(*args, **kwargs)
        self.note(made, result)
        if result.is_floating_point():
            made.meta[COMPUTED] = ir.tensor(to_array(result).copy(), dtype=DTYPES[result.dtype])

    def _tensor(self, leaf: Any) -> Any:
        return self._tensors[leaf] if isinstance(leaf, ir.Value) else leaf


#: What arguments are made of that are no symbols.
_PLAIN = (ir.Value, bool, int, float, complex, str, torch.dtype)


def _is_fixed(val: Any) -> bool:
    """Whether a result is one tensor of known sizes."""
    if not isinstance(val, torch.Tensor) or not all(isinstance(size, int) for size in val.shape):
        return False
    return val.numel() <= _MAX_ELEMENTS


def _is_function(target: Any) -> bool:
    """Whether an op gives the same numbers each time, and writes to none of its arguments."""
    if torch.Tag.nondeterministic_seeded in target.tags or "empty" in plain_name(target):
        return False
    return not compat.schema(target).is_mutable
