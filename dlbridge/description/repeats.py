"""Counts the nodes of a description before they are created, as nested repeats can make any number of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dlbridge.description import parameters as parameters_of
from dlbridge.description import schema
from dlbridge.errors import DescriptionError
from dlbridge.limits import limits


class Repeats:
    """The nodes of a description after its blocks are expanded.

    Args:
        description: The description.
        data: The same as plain data.
    """

    def __init__(self, description: schema.Description, data: Mapping[str, Any]) -> None:
        self.blocks = description.blocks
        self.data = data
        self.known: dict[tuple[str, str], int] = {}

    def first_beyond(self, limit: int) -> int | None:
        """The node with which the count exceeds ``limit``; None if it does not.

        Quantities that depend on the number of a repetition are taken from the last one.
        """
        total = 0
        for index, node in enumerate(self.data.get("nodes") or []):
            total += self._nodes([node], {}, ())
            if total > limit:
                return index
        return None

    def _nodes(self, nodes: list[Any], given: Mapping[str, Any], stack: tuple[str, ...]) -> int:
        total = 0
        for node in nodes:
            name = node.get("block")
            if name is None or name not in self.blocks or name in stack:
                total += 1
                continue
            try:
                times, filled = self._instance(node, given)
            except DescriptionError:
                continue  # its mistake is told where it is expanded
            total += times * self._block(name, filled, (*stack, name))
            if total > limits().nodes:
                break
        return total

    def _instance(self, node: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """How often a block is repeated, and with which parameters."""
        block = self.blocks[node["block"]]
        times = parameters_of.fill(node.get("repeat", 1), given)
        if not isinstance(times, int):
            times = 1
        own = {key: parameters_of.fill(node[key], given) for key in block.parameters if key in node}
        return times, {"index": times - 1, **block.parameters, **own}

    def _block(self, name: str, filled: Mapping[str, Any], stack: tuple[str, ...]) -> int:
        key = (name, json.dumps(filled, default=str, sort_keys=True))
        if key not in self.known:
            self.known[key] = self._nodes(self.data["blocks"][name]["nodes"], filled, stack)
        return self.known[key]
