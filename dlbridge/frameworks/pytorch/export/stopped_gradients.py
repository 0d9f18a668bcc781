"""Finds where a module's code keeps gradients from weights that train: ``detach``, ``torch.no_grad``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.export import ExportedProgram

from dlbridge.frameworks.pytorch.compat import OpOverload, pytree
from dlbridge.frameworks.pytorch.fx.schema import plain_name


def stops(program: ExportedProgram) -> Iterator[torch.fx.Node]:
    """The calls that stop the gradients of weights that train."""
    nodes = list(program.graph.nodes)
    specs = program.graph_signature.input_specs
    targets = dict(zip((node for node in nodes if node.op == "placeholder"), (s.target for s in specs), strict=True))
    learns = {node for node, target in targets.items() if _trains(program.state_dict.get(target or ""))}
    for node in nodes:
        if node.op != "call_function" or not learns.intersection(node.all_input_nodes):
            continue
        if _is_stop(node):
            yield node
        elif any(
            isinstance(v, torch.Tensor) and v.is_floating_point() for v in pytree.tree_leaves(node.meta.get("val"))
        ):
            learns.add(node)


def _trains(weight: Any) -> bool:
    return isinstance(weight, torch.nn.Parameter) and weight.requires_grad


def _is_stop(node: torch.fx.Node) -> bool:
    if isinstance(node.target, OpOverload):
        return plain_name(node.target) == "aten.detach"
    return str(node.target) == "wrap_with_set_grad_enabled" and node.args[0] is False
