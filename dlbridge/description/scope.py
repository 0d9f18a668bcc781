"""Names while a description is expanded: what a reference refers to, and which names are in use."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import onnx_ir as ir

from dlbridge.errors import DescriptionError, suggest

#: How layers without a name are called; other ops are called by their own name in snake_case.
SHORT_NAMES = {
    "Linear": "fc",
    "ConvTranspose": "deconv",
    "MaxPool": "pool",
    "AveragePool": "pool",
    "LpPool": "pool",
    "GlobalAveragePool": "pool",
    "GlobalMaxPool": "pool",
    "BatchNormalization": "bn",
    "LayerNormalization": "norm",
    "RMSNormalization": "norm",
    "GroupNormalization": "norm",
    "InstanceNormalization": "norm",
}


def conventional_name(op: str) -> str:
    """``Linear`` -> ``fc``, ``Conv`` -> ``conv``, ``ReduceMean`` -> ``reduce_mean``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", op)
    return SHORT_NAMES.get(op, re.sub(r"\W", "_", words).lower())


@dataclass
class Parts:
    """The parts of the graph that is being built: the model's, or a subgraph's with its parent's."""

    parent: Parts | None = None
    inputs: list[ir.Value] = field(default_factory=list)
    nodes: list[ir.Node] = field(default_factory=list)
    initializers: dict[str, ir.Value] = field(default_factory=dict)
    value_names: dict[str, ir.Value] = field(default_factory=dict)
    node_names: set[str] = field(default_factory=set)

    def add_value(self, value: ir.Value) -> None:
        """Reserve the name of a value.

        Raises:
            DescriptionError: When something in this graph or around it has it already.
        """
        name = value.name or ""
        if self.find_value(name) is not None:
            raise DescriptionError(
                f"the name '{name}' is given twice", hint="names of inputs, nodes and weights differ"
            )
        self.value_names[name] = value

    def find_value(self, name: str) -> ir.Value | None:
        return self.value_names.get(name) or (self.parent.find_value(name) if self.parent else None)

    def find_initializer(self, name: str) -> ir.Value | None:
        return self.initializers.get(name) or (self.parent.find_initializer(name) if self.parent else None)

    def add_node(self, node: ir.Node) -> None:
        if node.name:
            if node.name in self.node_names:
                raise DescriptionError(f"the name '{node.name}' is given twice", hint="names of nodes differ")
            self.node_names.add(node.name)
        self.nodes.append(node)

    def add_initializer(self, value: ir.Value) -> ir.Value:
        self.add_value(value)
        self.initializers[value.name or ""] = value
        return value


@dataclass
class Scope:
    """The names that are visible in one list of nodes: of the model, an instance of a block, or a subgraph.

    Attributes:
        parts: The graph that is built.
        prefix: Dotted path with a dot at its end; "" for the model.
        parent: The scope around a subgraph. A block's instance sees nothing around it.
        later: Names of nodes that are still to come -> the names that they read, for the error of reading one.
        previous: What a node without ``from`` reads; None where that would be a guess.
        shared: Prefix of the instance whose weights this one shares.
    """

    parts: Parts
    prefix: str = ""
    parent: Scope | None = None
    names: dict[str, dict[str, ir.Value]] = field(default_factory=dict)
    later: dict[str, list[str]] = field(default_factory=dict)
    previous: ir.Value | None = None
    shared: str | None = None
    given: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    def path(self, name: str) -> str:
        return self.prefix + name

    def define(self, name: str, outputs: Mapping[str, ir.Value]) -> None:
        """Bind ``name`` to the first output, and ``name.key`` to each."""
        self.names[name] = dict(outputs)

    def fresh_name(self, base: str) -> str:
        """A name for a layer without one: ``fc1``, ``fc2``, ..."""
        while True:
            self.counts[base] += 1
            name = f"{base}{self.counts[base]}"
            if name not in self.given and name not in self.names:
                return name

    def resolve(self, reference: str, reader: str | None = None) -> ir.Value:
        """The value that a reference refers to: an input, a node's output, a weight.

        Raises:
            DescriptionError: When nothing of that name comes before.
        """
        scope: Scope | None = self
        while scope is not None:
            found = scope._find(reference)
            if found is not None:
                return found
            scope = scope.parent
        self._fail(reference, reader)

    def _find(self, reference: str) -> ir.Value | None:
        if reference in self.names:
            return next(iter(self.names[reference].values()))
        head, _, key = reference.rpartition(".")
        if head in self.names and key in self.names[head]:
            return self.names[head][key]
        return self.parts.find_initializer(self.path(reference))

    def _fail(self, reference: str, reader: str | None) -> NoReturn:
        head = reference.split(".")[0]
        if reference == reader:
            raise DescriptionError(f"cycle: '{reader}' reads itself")
        if head in self.later:
            cycle = self._cycle(reader, head)
            if cycle:
                raise DescriptionError(f"cycle: {' reads '.join(repr(n) for n in cycle)}", hint="a graph has no cycles")
            raise DescriptionError(
                f"'{reference}' comes after the node that reads it", hint="put a node below what it reads"
            )
        known = list(self.all_names())
        if head in self.names:
            outputs = ", ".join(f"{head}.{key}" for key in self.names[head])
            raise DescriptionError(f"'{head}' has no output or weight '{reference}'", hint=f"it has: {outputs}")
        raise DescriptionError(
            f"reads '{reference}', and nothing is called so", hint=suggest(reference, known) or _listing(known)
        )

    def all_names(self) -> Iterable[str]:
        yield from self.names
        if self.parent is not None:
            yield from self.parent.all_names()

    def _cycle(self, reader: str | None, start: str) -> list[str]:
        """The way from ``start`` back to the reader, if there is one."""
        if reader is None:
            return []
        stack, seen = [[reader, start]], set()
        while stack:
            way = stack.pop()
            for name in self.later.get(way[-1], ()):
                if name == reader:
                    return [*way, name]
                if name not in seen:
                    seen.add(name)
                    stack.append([*way, name])
        return []


def _listing(known: list[str]) -> str | None:
    return f"known here: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}" if known else None
