"""Takes one ATen op apart into simpler ones, as torch itself does: by its decomposition, or by what it is made of."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx


@functools.cache
def _table() -> dict[Any, Any]:
    return dict(torch._decomp.core_aten_decompositions())


def traced(node: torch.fx.Node) -> torch.fx.GraphModule | None:
    """The ops that a call is made of, as a graph whose placeholders are the call's tensors; None when it is one piece.

    Args:
        node: A call of an ATen op, with fake tensors in ``meta["val"]``.
    """
    target: Any = node.target
    table = _table()
    if target in table:
        function: Any = table[target]
    elif torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), "CompositeImplicitAutograd"):
        function = target.decompose
    else:
        return None
    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
    leaves, spec = torch.utils._pytree.tree_flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    mode = next((leaves[i].fake_mode for i in places if hasattr(leaves[i], "fake_mode")), None)

    def call(*tensors: torch.Tensor) -> Any:
        filled = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        again, keywords = torch.utils._pytree.tree_unflatten(filled, spec)
        return function(*again, **keywords)

    with torch.no_grad(), mode or torch.utils._python_dispatch._disable_current_modes():
        graph_module = make_fx(call)(*(leaves[i] for i in places))
    only = [n for n in graph_module.graph.nodes if n.op == "call_function"]
    return None if any(n.target is target for n in only) else graph_module
