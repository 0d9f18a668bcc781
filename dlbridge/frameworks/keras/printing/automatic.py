"""The names that Keras gives by itself to the operations and layers that a written model is joined of.

Keras names an operation after its class and counts on over the whole process (``matmul``, ``matmul_1``), so any number
may follow, depending on what was made before. In one model no two names may be equal: a layer that is given a name must
not be called as Keras may call something else in it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import keras

from dlbridge.frameworks.keras import compat
from dlbridge.frameworks.keras.printing.needs import nodes_of
from dlbridge.source.tree.code import Code
from dlbridge.source.tree.expr import Call, dotted, layer_inputs

if TYPE_CHECKING:
    from dlbridge.frameworks.keras.writer import KerasWriter


def automatic_names(calls: Iterable[set[str]], kinds: Iterable[str]) -> frozenset[str]:
    """The names, without a number, that Keras may give to what code makes.

    Args:
        calls: The dotted names of what each piece of code that joins layers calls.
        kinds: Classes of the layers in it that are given no name.
    """
    found = set(kinds)
    for called in calls:
        functions = [path for path in called if path.partition(".")[0] in ("ops", "keras")]
        found = found.union(_made_by_operators(), *(_made_by(path.rpartition(".")[2]) for path in functions))
    return frozenset(compat.to_snake_case(kind) for kind in found)


def of_writer(writer: KerasWriter) -> frozenset[str]:
    """The names that Keras may give by itself to what is joined in a written model."""
    joined = [n for b in writer.root.blocks() if b not in writer.dynamic for n in nodes_of(b)]
    calls, kinds = [r.called() for r in writer.returned if isinstance(r, Code)], set[str]()
    for node in joined:
        emit = writer.emits[node]
        layer = emit.layer if emit.layer is not None else emit.module
        if layer is not None and isinstance(layer.new, Call) and not writer.is_named(node, layer):
            kinds.add((dotted(layer.new.function) or "").rpartition(".")[2])
        if layer_inputs(emit.code) is None and (emit.layer is not None or emit.module is None):
            calls.append(writer.calls_of(emit.code))
    return automatic_names(calls, kinds)


def is_automatic(name: str, automatic: frozenset[str]) -> bool:
    """Whether Keras may give something this very name."""
    before, _, number = name.rpartition("_")
    return (before if number.isdecimal() else name) in automatic


@functools.cache
def _made_by(function: str) -> frozenset[str]:
    """The classes of the operations that a function of Keras may make, and the functions that it calls."""
    found: set[str] = set()
    pending, seen = [function], set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        words = _words(_function(name))
        found |= words & compat.own_operations()
        pending += [word for word in words if _function(word) is not None]
    return frozenset(found)


def _function(name: str) -> Callable[..., Any] | None:
    places = (keras.ops, keras.activations, keras.ops.image, keras.ops.linalg, keras.ops.nn)
    found = (getattr(place, name, None) for place in places)
    return next((f for f in found if inspect.isfunction(f)), None)


def _words(function: Callable[..., Any] | None) -> set[str]:
    """The names of functions, modules and attributes in the code of a function."""
    pending: list[Any] = [inspect.unwrap(function).__code__] if function is not None else []
    found: set[str] = set()
    while pending:
        code = pending.pop()
        found.update(code.co_names, code.co_freevars)
        pending += [constant for constant in code.co_consts if inspect.iscode(constant)]
    return found


@functools.cache
def _made_by_operators() -> frozenset[str]:
    """The classes of the operations that Python's operators make of tensors."""
    methods = [f for name, f in vars(keras.KerasTensor).items() if name.startswith("__") and inspect.isfunction(f)]
    return frozenset(set.union(*(_words(f) for f in methods)) & compat.own_operations())
