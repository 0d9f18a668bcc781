"""PyTorch's private API, in one place.

What is imported here is for the other modules, none of which touches what is private. ``test_compat.py`` sees to it,
and asks for all of it of the installed PyTorch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.pt2_archive._package import PT2ArchiveReader
from torch.fx.experimental import _config as fx_config
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.batchnorm import _NormBase as NormBase
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._python_dispatch import _disable_current_modes as without_modes
from torch.utils._sympy.functions import FloorDiv, TruncToInt
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy

#: One operation on each tensor of a list, in place.
foreach_clamp_max = torch._foreach_clamp_max_
foreach_clamp_min = torch._foreach_clamp_min_
foreach_mul = torch._foreach_mul_
#: The functions of the recurrent layers, which their modules call.
functions = torch._VF
#: op -> the function that writes it in the ops of the core set.
core_decompositions = torch._decomp.core_aten_decompositions
detect_fake_mode = torch._guards.detect_fake_mode
#: Whether the dispatcher has a kernel for (the qualified name of an op, a dispatch key).
has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
#: The qualified names of all ops that the dispatcher knows.
operator_names = torch._C._dispatch_get_all_op_names


def export(*args: Any, expanded: bool = False, **options: Any) -> ExportedProgram:
    """``torch.export.export`` without what torch has around it, which prints the graph so far where an export fails.

    Args:
        args, options: As of torch's function.
        expanded: Whether function transforms become the ops that they run, ``vmap`` ops on whole batches; PyTorch has
            no public function for this.
    """
    from torch.export import _trace  # it loads much, which most models need not

    if expanded:
        function, options = _trace._export, {**options, "pre_dispatch": False}
    else:
        function = _trace._export_for_training
    return getattr(function, "__wrapped__", function)(*args, **options)


def schema(op: Any) -> Any:
    """The schema of an overload of an op; None for what has none."""
    return getattr(op, "_schema", None)


def overload_name(op: Any) -> str:
    """``Tensor`` of ``aten.add.Tensor``."""
    return op._overloadname


def memory_of(tensor: torch.Tensor) -> int:
    """What is the same for tensors that are views of the same memory; fake tensors have some too."""
    return tensor.untyped_storage()._cdata


def opt_einsum_is_used() -> bool:
    """Whether ``torch.einsum`` asks opt_einsum in which order to contract more than two operands."""
    return torch.backends.opt_einsum.enabled and torch.backends.opt_einsum.is_available()


def contraction_path(equation: str, shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """The order in which ``torch.einsum`` contracts operands of these shapes: the places of two, one pair after the
    other."""
    backend = torch.backends.opt_einsum
    pairs = backend.get_opt_einsum().contract_path(equation, *shapes, shapes=True, optimize=backend.strategy)[0]
    return [*itertools.chain.from_iterable(pairs)]


def is_always(condition: Any) -> bool:
    """Whether a comparison of sizes holds for all of them; the question leaves no guard."""
    return bool(statically_known_true(condition))


def traced_graph() -> torch.fx.Graph | None:
    """The graph that this thread is tracing at the moment; None where it traces none."""
    mode = get_proxy_mode()
    return getattr(mode.tracer, "graph", None) if mode is not None else None


def traced_node(tensor: torch.Tensor) -> torch.fx.Node | None:
    """The node of the graph that is being traced whose result a tensor is; None for a tensor that is none's."""
    mode = get_proxy_mode()
    if mode is None:
        return None
    if torch._is_functional_tensor(getattr(tensor, "elem", tensor)):
        tensor = torch._from_functional_tensor(getattr(tensor, "elem", tensor))
    slot = get_proxy_slot(tensor, mode.tracer, None)
    return getattr(getattr(slot, "proxy", None), "node", None)
