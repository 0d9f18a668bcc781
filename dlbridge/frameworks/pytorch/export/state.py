"""Puts back what a module writes to itself when it is run: a cache that it holds, a counter, the last hidden state.

A conversion runs a module several times and compares it with a graph that has one beginning, so each run begins with
what the module held when it was read.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch.export import ExportedProgram

from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.fx.schema import mutates

#: Attributes that every module has; what is written to while a module runs is none of them, buffers apart.
_OF_MODULES = frozenset(vars(torch.nn.Module())) - {"_buffers"}
#: Objects of these classes hold nothing that a run changes, or nothing that is the module's.
_OTHERS = (str, bytes, int, float, complex, type, types.ModuleType, types.FunctionType, torch.nn.Parameter)
#: Packages whose objects are never a module's state: locks, loggers, threads.
_MACHINERY = sys.stdlib_module_names - {"collections", "types"}


@contextlib.contextmanager
def kept(module: torch.nn.Module, written: Collection[str] = ()) -> Iterator[list[str]]:
    """Within the block, a module may write to its attributes, and to lists, dicts, objects and tensors in them.

    Afterwards they are as before.

    Args:
        module: The module.
        written: Names of the buffers that it writes to in place.

    Yields:
        A list that has, afterwards, the names of the attributes that were written to.
    """
    snapshot = _Snapshot()
    for name, buffer in module.named_buffers():
        snapshot.seen.add(id(buffer))
        if name in written:
            snapshot.note_numbers(buffer, name)
    for part in module.modules():
        snapshot.note_module(part)
    try:
        yield snapshot.changed
    finally:
        snapshot.restore()


def written_buffers(program: ExportedProgram) -> set[str]:
    """The names of the buffers that a program writes to in place, or a view of which it writes to."""
    found = set(program.graph_signature.buffers_to_mutate.values())
    targets = [node.args[0].meta.get("val") for node in program.graph.nodes if mutates(node)]  # type: ignore[union-attr]
    written = {compat.memory_of(target) for target in targets}
    if not written:
        return found
    placeholders = (node for node in program.graph.nodes if node.op == "placeholder")
    for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True):
        if spec.kind.name == "BUFFER" and compat.memory_of(node.meta["val"]) in written:
            found.add(spec.target or "")
    return found


class _Snapshot:
    """What mutable objects hold, and how to let them hold that again."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        #: Names of the attributes that were not as before when they were put back.
        self.changed: list[str] = []
        self._alive: list[Any] = []
        self._undo: list[Callable[[], None]] = []

    def restore(self) -> None:
        for undo in self._undo:
            undo()

    def note_module(self, part: torch.nn.Module) -> None:
        self._note_attributes(part, _OF_MODULES)

    def note_numbers(self, tensor: torch.Tensor, name: str) -> None:
        """Keep the numbers of a tensor; they are put back where it was written to in place."""
        if not _is_plain(tensor):
            return
        version, has_graph = tensor._version, tensor.grad_fn is not None
        with compat.without_modes():
            before = tensor.detach().clone()

        def undo() -> None:
            if tensor._version == version:
                return
            self.changed.append(name)
            if tensor.grad_fn is not None and not has_graph:
                tensor.detach_()
            with compat.without_modes(), torch.no_grad():
                tensor.copy_(before)

        self._undo.append(undo)

    def _note(self, value: Any, name: str) -> None:
        if isinstance(value, _OTHERS) or value is None or id(value) in self.seen:
            return
        self.seen.add(id(value))
        self._alive.append(value)
        if isinstance(value, torch.Tensor):
            self.note_numbers(value, name)
        elif isinstance(value, (list, deque)):
            self._note_items(value, name)
        elif isinstance(value, dict):
            self._note_entries(value, name)
        elif isinstance(value, tuple):
            for item in value:
                self._note(item, name)
        elif isinstance(value, torch.nn.Module):
            self.note_module(value)
        elif type(value).__module__.partition(".")[0] not in _MACHINERY and hasattr(value, "__dict__"):
            self._note_attributes(value)

    def _note_items(self, items: list[Any] | deque[Any], name: str) -> None:
        before = list(items)

        def undo() -> None:
            if not _same(list(items), before):
                self.changed.append(name)
                items.clear()
                items.extend(before)

        self._undo.append(undo)
        for item in before:
            self._note(item, name)

    def _note_entries(self, entries: dict[Any, Any], name: str) -> None:
        before = dict(entries)

        def undo() -> None:
            if not _same(list(entries.items()), list(before.items())):
                other = [str(key) for key, value in entries.items() if before.get(key, entries) is not value]
                self.changed.extend(other if name == "_buffers" else [name])
                entries.clear()
                entries.update(before)

        self._undo.append(undo)
        for value in before.values():
            self._note(value, name)

    def _note_attributes(self, holder: Any, without: Collection[str] = ()) -> None:
        attributes = vars(holder)
        before = {name: value for name, value in attributes.items() if name not in without}

        def undo() -> None:
            new = attributes.keys() - before.keys() - set(without)
            for name in new:
                del attributes[name]
            other = {n: v for n, v in before.items() if attributes.get(n, attributes) is not v}
            # torch.export replaces a module's tuples with new ones of the same items: these are no change
            self.changed += [*new, *(n for n, v in other.items() if not _same([attributes.get(n)], [v]))]
            attributes.update(other)

        self._undo.append(undo)
        for name, value in before.items():
            self._note(value, name)


def _same(now: list[Any], before: list[Any]) -> bool:
    """Whether two lists hold the same objects; pairs are compared by what is in them."""
    if len(now) != len(before):
        return False
    for a, b in zip(now, before, strict=True):
        pairs = (
            zip(a, b, strict=True) if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b) else [(a, b)]
        )
        if any(x is not y for x, y in pairs):
            return False
    return True


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor has numbers that a run may change and that can be kept."""
    if type(tensor) is not torch.Tensor or tensor.is_inference():
        return False
    return tensor.layout == torch.strided and tensor.device.type != "meta"
