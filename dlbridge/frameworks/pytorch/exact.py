"""Runs a module with every float in float64, on a copy: the judge of verification, and what shows where numbers depart.

A cast of the weights alone does not do: modules say ``torch.float32`` and ``.half()`` in their code. So each call of an
op is intercepted, and float types narrower than float64 are replaced in what goes in, in the dtypes that it is
given, and in what comes out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.arrays import to_array
from dlbridge.frameworks.pytorch.compat import TorchDispatchMode, pytree
from dlbridge.ops import evaluator
from dlbridge.ops.evaluator import NARROW, eps, perturb, rounded_within, widen

_WIDE = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex32: torch.complex128,
}
#: Types of numbers that are compared bit for bit.
_WHOLE = frozenset({torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool})
#: Ops that sum products.
_SUMS = frozenset({"mm", "bmm", "addmm", "baddbmm", "addbmm", "addmv", "mv", "dot", "linear", "convolution"})
#: Ops that subtract the mean of their operand, and divide by what is left.
_CENTRING = frozenset({"native_layer_norm", "native_group_norm"})
#: Ops that take any of equal numbers.
_CHOICES = frozenset({torch.ops.aten.topk.default})
#: In a large model, a parameter of so many numbers is widened at each use: all of them at once are twice the model.
_SHARED = 2**16
#: (module, arrays by input name) -> arrays by output name.
Call = Callable[[torch.nn.Module, Mapping[str, np.ndarray]], dict[str, np.ndarray]]
#: Ops that compute nothing, and refuse the types that are not the program's own.
_CHECKS = {torch.ops.aten._assert_tensor_metadata.default}


class Float64(TorchDispatchMode):
    """Computes in float64, whatever float type the code asks for.

    Args:
        noise: Move each result by a random part of at most this; the other way where it is negative.
        seen: Gets every array of numbers or truth values that is computed, in order.
        shared: Where the numbers of parameters lie that are not to be changed. A view of one is no copy in float64.

    Attributes:
        eps: That of the coarsest float type that was replaced; 0 when none was.
    """

    def __init__(
        self, noise: float = 0.0, seen: list[np.ndarray] | None = None, shared: frozenset[int] = frozenset()
    ) -> None:
        super().__init__()
        self._shared = shared
        self.noise, self.seen = noise, seen
        self.eps = 0.0
        self._generator = np.random.default_rng(0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func in _CHECKS:
            return None
        if func is torch.ops.aten.view.dtype:
            return self._bits(*args)
        if self._shared and self._is_view_of_shared(func, args):
            return func(*args, **(kwargs or {}))
        arguments, named = pytree.tree_map(self._widen, (args, kwargs or {}))
        if self.noise and func in _CHOICES:
            arguments = (self._without_ties(arguments[0]), *arguments[1:])
        schema = compat.schema(func)
        name = schema.name.removeprefix("aten::")
        if self.noise and name in _CENTRING:
            arguments = (self._rounded_within(arguments[0]), *arguments[1:])
        try:
            result = func(*arguments, **named)
        except (RuntimeError, NotImplementedError) as error:
            if "not implemented for" not in str(error) and "not support" not in str(error):
                raise
            result = func(*args, **(kwargs or {}))  # there is no such kernel for float64
        if schema.is_mutable:
            return self._written_back(func, args, kwargs or {}, arguments, named, result)
        fresh, is_sum = not any(r.alias_info for r in schema.returns), name in _SUMS
        return pytree.tree_map_only(torch.Tensor, lambda t: self._as_float64(t, fresh, is_sum), result)

    def _is_view_of_shared(self, func: Any, args: tuple[Any, ...]) -> bool:
        """Whether an op makes a view of a shared parameter.

        Raises:
            RuntimeError: When it writes to one.
        """
        schema = compat.schema(func)
        is_view = any(r.alias_info for r in schema.returns)
        if not is_view and not schema.is_mutable:
            return False
        if not any(_place(a) in self._shared for a in pytree.tree_leaves(args) if isinstance(a, torch.Tensor)):
            return False
        if schema.is_mutable:
            raise RuntimeError(f"{schema.name} has a parameter among its operands, and writes to one of them")
        return True

    def _widen(self, value: Any) -> Any:
        if isinstance(value, torch.dtype) and value in _WIDE:
            self._note(value)
            return _WIDE[value]
        if isinstance(value, torch.Tensor) and value.dtype in _WIDE:
            self._note(value.dtype)
            return value.to(_WIDE[value.dtype])
        return value

    def _without_ties(self, tensor: torch.Tensor) -> torch.Tensor:
        """The numbers, moved by next to nothing: noise moves no zeros and quarters, and of equal numbers any may be
        taken. Noise of the other sign puts them in the opposite order."""
        if tensor.dtype != torch.float64:
            return tensor
        moves = torch.from_numpy(self._generator.uniform(1.0, 2.0, tuple(tensor.shape)))
        least = torch.finfo(torch.float64).tiny + tensor.abs() * 2.0**-48
        return tensor + math.copysign(1.0, self.noise) * least * moves

    def _rounded_within(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(rounded_within(tensor.detach().numpy(), self.noise, self._generator))

    def _bits(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The bits of a number are those of the type that the module computes in: float32, where it is not said."""
        if tensor.dtype == torch.float64 and dtype.itemsize == 4:
            tensor = tensor.to(torch.float32)
        return self._as_float64(tensor.view(dtype), fresh=False)

    def _note(self, dtype: torch.dtype) -> None:
        self.eps = max(self.eps, torch.finfo(dtype).eps)

    def _as_float64(self, tensor: torch.Tensor, fresh: bool, is_sum: bool = False) -> torch.Tensor:
        """The result in float64, with noise added if that was asked for."""
        tensor = tensor.to(_WIDE.get(tensor.dtype, tensor.dtype))
        if self.noise and fresh and tensor.dtype == torch.float64:
            moved = perturb(tensor.detach().numpy(), self.noise, self._generator, is_sum=is_sum)
            tensor = torch.from_numpy(np.asarray(moved))
        self._show(tensor)
        return tensor

    def _show(self, tensor: torch.Tensor) -> None:
        if self.seen is not None and (tensor.dtype == torch.float64 or tensor.dtype in _WHOLE):
            _show(tensor, self.seen)

    def _written_back(self, func, args, named_args, arguments, named, result):  # type: ignore[no-untyped-def]
        """Copy results back into the operands that an op writes to, and return those tensors."""
        given, wide = (*args, *named_args.values()), (*arguments, *named.values())
        owner = {}
        for before, after in zip(pytree.tree_leaves(given), pytree.tree_leaves(wide), strict=True):
            if isinstance(before, torch.Tensor) and before is not after and before.shape == after.shape:
                before.copy_(after)
                owner[id(after)] = before
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._show(tensor)
        return pytree.tree_map_only(torch.Tensor, lambda t: owner.get(id(t), t), result)


class Shows(TorchDispatchMode):
    """Computes what the code asks for, and shows it.

    Args:
        seen: Gets every array of numbers or truth values that is computed, in order.
    """

    def __init__(self, seen: list[np.ndarray]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and (tensor.dtype in _WHOLE or tensor.is_floating_point()):
                _show(tensor, self._seen)
        return result


def _show(tensor: torch.Tensor, seen: list[np.ndarray]) -> None:
    """Keep a copy of the numbers of a tensor."""
    if tensor.layout == torch.strided:
        seen.append(to_array(tensor.detach()).copy())


@torch.ops.higher_order.cond.py_impl(Float64)  # type: ignore[untyped-decorator]
def _cond(mode, condition, if_true, if_false, operands=()):  # type: ignore[no-untyped-def]
    """``torch.cond``: the branch itself, op by op."""
    with mode:
        return (if_true if bool(condition) else if_false)(*operands)


@torch.ops.higher_order.while_loop.py_impl(Float64)  # type: ignore[untyped-decorator]
def _while_loop(mode, condition, body, carried, captured=()):  # type: ignore[no-untyped-def]
    """``torch.while_loop``: one round after the other, op by op."""
    with mode:
        while bool(condition(*carried, *captured)):
            carried = body(*carried, *captured)
        return carried


class Exact:
    """A module in float64.

    It is a copy. Of a large module, it has the module's own large parameters, which are widened when an op reads them,
    unless it compares their dtype with its input's, as ``torch.nn.LSTM`` does, or writes to them.

    Args:
        module: Left as it is.
        call: Runs a module.

    Attributes:
        eps: That of the coarsest float type that the module has computed in.
    """

    def __init__(self, module: torch.nn.Module, call: Call) -> None:
        self._call, self._as_it_is = call, module
        is_large = sum(p.numel() * p.element_size() for p in module.parameters()) >= evaluator.LARGE
        self._given = module if is_large else None
        self._module, self.eps = _widened_copy(module, shared=_SHARED if is_large else math.inf)
        self._shared = frozenset(_place(p) for p in self._module.parameters() if p.dtype in _WIDE) - {0}

    def __call__(
        self, arrays: Mapping[str, np.ndarray], *, noise: float = 0.0, seen: list[np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Run it; see ``dlbridge.ops.evaluator.Evaluator``."""
        self.eps = max([self.eps, *(eps(a.dtype) for a in arrays.values() if a.dtype in NARROW)])
        if self._given is None:
            return self._run(arrays, noise, seen)
        shown = len(seen or ())
        try:
            return self._run(arrays, noise, seen)
        except Exception:  # it may be for a shared parameter, and modules raise anything
            self._module, _ = _widened_copy(self._given)
            self._given, self._shared = None, frozenset()
        del (seen if seen is not None else [])[shown:]
        return self._run(arrays, noise, seen)

    def in_own_types(self, arrays: Mapping[str, np.ndarray], seen: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Run the module itself in its own types; ``seen`` gets each array of numbers or truth values on the way."""
        with torch.no_grad(), torch.compiler.set_stance("force_eager"), Shows(seen):
            return self._call(self._as_it_is, arrays)

    def _run(
        self, arrays: Mapping[str, np.ndarray], noise: float, seen: list[np.ndarray] | None
    ) -> dict[str, np.ndarray]:
        mode = Float64(noise, seen, self._shared)
        # torch.cond and torch.while_loop compile what they call, which does not go with a mode
        with torch.no_grad(), torch.compiler.set_stance("force_eager"), mode:
            found = self._call(self._module, {name: widen(a) for name, a in arrays.items()})
        self.eps = max(self.eps, mode.eps)
        return found


def _widened_copy(module: torch.nn.Module, shared: float = math.inf) -> tuple[torch.nn.Module, float]:
    """A copy whose parameters and buffers are made in float64 at once, and the eps of the coarsest of them.

    Args:
        module: Left as it is.
        shared: From how many numbers on a parameter is not copied, but the module's own.
    """
    memo: dict[int, Any] = {}
    coarsest = 0.0
    for tensor in (*module.parameters(), *module.buffers()):
        wide = _WIDE.get(tensor.dtype)
        if wide is None:
            continue
        coarsest = max(coarsest, torch.finfo(tensor.dtype).eps)
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        if is_parameter and tensor.numel() >= shared:
            memo[id(tensor)] = tensor
            continue
        made = tensor.detach().to(wide)
        if is_parameter:
            made = torch.nn.Parameter(made, requires_grad=False)
        memo[id(tensor)] = made
    return copy.deepcopy(module, memo), coarsest


def _place(tensor: torch.Tensor) -> int:
    """Where the numbers of a tensor lie in memory; 0 where they are not in one piece."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0
