"""What PyTorch itself computes of constants: tables of frequencies and positions, as the original has them.

Two libraries' ``exp`` differ in the last bits. That is nothing in an activation, but a table of frequencies that is
multiplied by a time step of 1000000 turns it into another angle. So such a table is computed once, by the op that the
original calls, and constant folding (``passes.fold``) takes its numbers.

What is computed of weights alone by an op that no rule reads is computed once too (a weight that ``parametrize`` keeps
orthogonal is a matrix exponential): the numbers are a frozen weight then, and a warning says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor

from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.arrays import to_array
from dlbridge.frameworks.pytorch.compat import pytree
from dlbridge.frameworks.pytorch.fx.schema import plain_name
from dlbridge.frameworks.pytorch.fx.tensors import DTYPES, with_sizes
from dlbridge.ops import traits
from dlbridge.passes.fold import COMPUTED

#: A result with more elements than this is left to the graph.
_MAX_ELEMENTS = 1 << 20


class Computed:
    """The constants of a program, and what is computed of them alone, as tensors of PyTorch."""

    def __init__(self) -> None:
        self._tensors: dict[ir.Value, torch.Tensor] = {}
        self._calls: dict[ir.Value, _Call] = {}  # what makes a value of weights and constants alone
        self._once: dict[ir.Value, torch.Tensor] = {}
        #: The weights that others were computed of once.
        self.sources: set[ir.Value] = set()

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
        if not isinstance(made, ir.Value) or self._is_known(made):
            return  # the rule gives back what it was given
        call = _Call(target, args, kwargs)
        if not _is_function(target) or not all(map(self._is_known, call.leaves)):
            return
        if not _is_fixed(val) or any(leaf not in self._tensors for leaf in call.values):
            self._calls[made] = call
            return
        with torch.no_grad():
            result = call.run(self._tensors)
        self.note(made, result)
        if result.is_floating_point():
            made.meta[COMPUTED] = ir.tensor(to_array(result).copy(), dtype=DTYPES[result.dtype])

    def is_once(self, args: Any, kwargs: Any) -> bool:
        """Whether an op reads what was computed once, and weights and constants beside it, but nothing else."""
        call = _Call(None, args, kwargs)
        return any(leaf in self._once for leaf in call.values) and all(map(self._is_known, call.leaves))

    def is_of_weights(self, target: Any, args: Any, kwargs: Any) -> bool:
        """Whether an op reads weights and constants alone, so that it can be computed once."""
        call = _Call(target, args, kwargs)
        return bool(call.values) and _is_function(target) and all(map(self._is_known, call.leaves))

    def once(self, target: Any, args: Any, kwargs: Any, path: str) -> Any:
        """Compute an op that reads weights and constants alone.

        Args:
            target: The ATen op.
            args: Its arguments, with values in place of tensors.
            kwargs: Those by keyword.
            path: The module that calls it.

        Returns:
            A frozen weight, or several in a list.
        """
        call = _Call(target, args, kwargs)
        behind = self._behind(call.values)
        with torch.no_grad():
            result = call.run(self._evaluated(behind))
        self.sources.update(value for value in behind if _weight(value) is not None)
        if isinstance(result, torch.Tensor):
            return self._frozen(path, result)
        return [self._frozen(path, tensor) for tensor in result]

    def _frozen(self, path: str, tensor: torch.Tensor) -> ir.Value:
        module, _, parameter = path.partition(".parametrizations.")
        name = f"{module}.{parameter.partition('.')[0]}" if parameter else f"{path}.computed".lstrip(".")
        held = TorchTensor(tensor.contiguous(), name=name)
        value = ir.Value(name=name, type=ir.TensorType(held.dtype), shape=ir.Shape(tensor.shape), const_value=held)
        traits.set_kind(value, "frozen")
        self._once[value] = tensor
        return with_sizes(value, list(tensor.shape))

    @property
    def frozen(self) -> list[ir.Value]:
        """The weights that were computed once."""
        return list(self._once)

    def _is_known(self, leaf: Any) -> bool:
        """Whether an argument is the same in every run: no tensor, or one made of weights and constants."""
        if not isinstance(leaf, ir.Value):
            return leaf is None or isinstance(leaf, _PLAIN)  # else a size that is not known yet
        return leaf in self._tensors or leaf in self._calls or _weight(leaf) is not None

    def _behind(self, values: Iterable[ir.Value]) -> list[ir.Value]:
        """These values and all that they are made of, each behind what it is made of."""
        seen: set[ir.Value] = set()
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            if value not in seen:
                seen.add(value)
                waiting += self._calls[value].values if value in self._calls else ()
        return [*(v for v in seen if v not in self._calls), *(v for v in self._calls if v in seen)]

    def _evaluated(self, values: Iterable[ir.Value]) -> dict[ir.Value, torch.Tensor]:
        """The numbers of values, each of which stands behind what it is made of."""
        found: dict[ir.Value, torch.Tensor] = {}
        for value in values:
            own = self._tensors.get(value, _weight(value))
            found[value] = self._calls[value].run(found) if own is None else own
        return found


@dataclass(frozen=True)
class _Call:
    """An ATen op and its arguments, with values in place of tensors."""

    target: Any
    args: Any
    kwargs: Any

    @property
    def leaves(self) -> list[Any]:
        return list(pytree.tree_leaves((self.args, self.kwargs)))

    @property
    def values(self) -> list[ir.Value]:
        return [leaf for leaf in self.leaves if isinstance(leaf, ir.Value)]

    def run(self, tensors: Mapping[ir.Value, torch.Tensor]) -> Any:
        def tensor(leaf: Any) -> Any:
            return tensors[leaf] if isinstance(leaf, ir.Value) else leaf

        args, kwargs = pytree.tree_map(tensor, (self.args, self.kwargs))
        # What is kept of a constant are its numbers, not how they lay in memory where a view was taken of them.
        if self.target in (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default):
            return torch.reshape(*args, **kwargs)
        return self.target(*args, **kwargs)


def _weight(value: ir.Value) -> torch.Tensor | None:
    """The tensor of a weight of the module."""
    held = value.const_value
    is_own = isinstance(held, TorchTensor) and not value.meta.get("complex")
    return held.raw if is_own else None  # type: ignore[union-attr]


#: What arguments are made of that are no symbols.
_PLAIN = (bool, int, float, complex, str, torch.dtype)


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
