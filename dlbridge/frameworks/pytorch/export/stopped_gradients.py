"""Finds where a module's code keeps gradients from weights that train (``detach``, ``no_grad``): a graph does not."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.export import ExportedProgram

from dlbridge.errors import DlbridgeWarning
from dlbridge.frameworks.pytorch.compat import OpOverload, pytree
from dlbridge.frameworks.pytorch.fx.schema import plain_name, source_line


def tell(program: ExportedProgram, *, is_of_file: bool) -> None:
    """Warn where gradients are stopped, by the lines of the code; a file names lines that are none of its business."""
    stops = list(_stops(program))
    lines = dict.fromkeys(source_line(node.meta.get("stack_trace")) for node in stops)
    named = "" if is_of_file else ", ".join(line for line in lines if line)
    if stops:
        what = f"gradients that the code stops{f' ({named})' if named else ''}"
        text = f"not kept: {what}; in training, the weights before it learn from them"
        warnings.warn(text, DlbridgeWarning, stacklevel=5)


def _stops(program: ExportedProgram) -> Iterator[torch.fx.Node]:
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
