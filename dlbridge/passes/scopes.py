"""Dotted paths of nodes, blocks and values: what the readers of all frameworks share."""

from __future__ import annotations

import re
from collections.abc import Sequence

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.names import unique


def common_scope(scopes: Sequence[str]) -> str:
    """The innermost path that all of these paths are located in: ``a.b`` of ``a.b.c`` and ``a.b.d.e``."""
    shared: list[str] = []
    for parts in zip(*(scope.split(".") for scope in scopes), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def differ_only_in_numbers(path: str, other: str) -> bool:
    """Whether two paths are equal up to their numbers, as ``layers.0.norm`` and ``layers.11.norm`` are."""
    return re.sub(r"\d+", "#", path) == re.sub(r"\d+", "#", other)


def become_module(node: ir.Node, path: str, taken: set[str]) -> None:
    """Give a node the path of the module that consists of this node alone; in place.

    Args:
        node: The node.
        path: The module's path.
        taken: The names of all nodes; kept up to date.
    """
    taken.discard(node.name)
    taken.add(path)
    node.name = path
    node.metadata_props.pop(traits.ANONYMOUS, None)


def move_into_block(node: ir.Node, taken: set[str]) -> str:
    """Rename a node that has the path of a block to a node inside of that block, ``<path>.<op>``; the old path."""
    path = node.name or ""
    taken.discard(path)
    node.name = unique(f"{path}.{node.op_type.lower()}", taken)
    return path


def name_values(graph: ir.Graph) -> None:
    """Name every value after the node that produces it; inputs, outputs and initializers keep their names."""
    taken = set(graph.initializers) | {v.name or "" for v in (*graph.inputs, *graph.outputs)}
    kept = set(graph.outputs)
    for node in graph.all_nodes():
        for number, value in enumerate(node.outputs):
            if value not in kept:
                value.name = unique(f"{node.name}.{number}" if number else f"{node.name}", taken)
