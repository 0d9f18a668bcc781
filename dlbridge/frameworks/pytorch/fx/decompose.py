"""Decomposes an ATen op into simpler ones as PyTorch does: by its decomposition, or by tracing a composite op."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Iterator
from typing import Any

import sympy
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from dlbridge.errors import UnsupportedOpError, first_line
from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.compat import pytree
from dlbridge.frameworks.pytorch.fx.guards import of_memory
from dlbridge.frameworks.pytorch.fx.schema import attribute, plain_name

#: What logs where an export, a trace or a file fails.
_LOGGERS = ("torch._subclasses.fake_tensor", "torch.export", "torch.export._trace", "torch.export.pt2_archive._package")


@functools.cache
def _table() -> dict[Any, Any]:
    return dict(compat.core_decompositions())


def traced(node: torch.fx.Node) -> torch.fx.GraphModule | None:
    """The decomposition of a call as a graph whose placeholders are the call's tensors; None if there is none.

    Args:
        node: A call of an ATen op, with fake tensors in ``meta["val"]``.

    Raises:
        UnsupportedOpError: When these ops are right for the sizes of the example alone.
    """
    target = _out_of_place(node.target)
    table = _table()
    if target in table:
        function: Any = table[target]
    elif compat.has_kernel(target.name(), "CompositeImplicitAutograd"):
        function = target.decompose
    else:
        return None
    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), _value)
    leaves, spec = pytree.tree_flatten((_plain(args), _plain(kwargs)))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    mode = next((leaves[i].fake_mode for i in places if hasattr(leaves[i], "fake_mode")), None)

    def call(*tensors: torch.Tensor) -> Any:
        filled = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        again, keywords = pytree.tree_unflatten(filled, spec)
        made = function(*again, **keywords)
        return tuple(made) if isinstance(made, tuple) else made  # a named tuple would be a node of the graph

    if mode is not None:
        leaves = [mode.from_tensor(v) if _is_real(v) else v for v in leaves]
    known = _known(mode)
    with torch.no_grad(), mode or compat.without_modes(), quiet():
        try:
            graph_module = make_fx(call)(*(leaves[i] for i in places))
        except Exception as error:  # torch's own code, on sizes that are not numbers
            raise UnsupportedOpError(f"torch cannot take {target} apart: {first_line(error)}") from error
    if _known(mode) != known:
        raise UnsupportedOpError(
            f"torch takes {target} apart for one size of its input alone: give the model's sizes as numbers"
        )
    only = [n for n in graph_module.graph.nodes if n.op == "call_function"]
    return None if any(n.target is target for n in only) else graph_module


def _out_of_place(target: Any) -> Any:
    """The op that gives as a new tensor what an in-place one writes: ``aten.add`` for ``aten.add_``."""
    if not compat.schema(target).name.endswith("_"):
        return target
    space, _, name = plain_name(target).partition(".")
    return getattr(getattr(getattr(torch.ops, space), name, None), compat.overload_name(target), target)


def _known(mode: Any) -> Any:
    """The sizes that are known to equal a number or another size, and how many equations were assumed so far."""
    env = mode.shape_env if mode is not None else None
    if env is None:
        return None
    return dict(env.replacements), sum(isinstance(g.expr, sympy.Eq) and not of_memory(g) for g in env.guards)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block, PyTorch does not log errors of this thread; they are reported otherwise."""
    here = threading.get_ident()
    loggers = [logging.getLogger(name) for name in _LOGGERS]

    def is_of_others(record: logging.LogRecord) -> bool:
        return record.thread != here

    for logger in loggers:
        logger.addFilter(is_of_others)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_of_others)


def _value(node: torch.fx.Node) -> Any:
    """The value of an argument node: its fake tensor, or the constant of the graph that it refers to."""
    if "val" in node.meta or node.op != "get_attr":
        return node.meta["val"]
    return attribute(node.graph.owning_module, node)


def _plain(arguments: Any) -> Any:
    """The arguments with fx's immutable lists copied to plain ones."""
    if isinstance(arguments, dict):
        return {k: _plain(v) for k, v in arguments.items()}
    return [_plain(a) for a in arguments] if isinstance(arguments, (list, tuple)) else arguments


def _is_real(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not hasattr(value, "fake_mode")
