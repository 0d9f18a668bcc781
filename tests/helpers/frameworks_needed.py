"""Which frameworks a test needs: those that its code, what it calls in ``tests``, and its parameters name."""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType

import pytest

#: Mark -> the packages of the framework.
PACKAGES = {"pytorch": ("torch",), "keras": ("keras", "tensorflow", "tf2onnx"), "nnx": ("flax", "jax", "optax")}
#: What stands for a framework, as a whole string, an attribute or the name of an imported package.
_WORDS = {package: mark for mark, packages in PACKAGES.items() for package in packages}
_WORDS |= {"pytorch": "pytorch", "nnx": "nnx"} | {f"to_{mark}": mark for mark in PACKAGES}


@functools.cache
def missing(framework: str) -> bool:
    return any(importlib.util.find_spec(package) is None for package in PACKAGES[framework])


def frameworks_needed(item: pytest.Function) -> set[str]:
    """The marks of the frameworks without which a test cannot run."""
    seen: set[object] = set()
    found = set(_of_function(item.function, seen))
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        found |= {mark for definition in definitions for mark in _of_value(definition.func, seen)}
    for value in getattr(item, "callspec", None).params.values() if hasattr(item, "callspec") else ():
        found |= set(_of_value(value, seen))
    return found


def _of_value(value: object, seen: set[object]) -> Iterator[str]:
    """What a global variable, a parameter or a fixture needs."""
    match value:
        case str():
            if value in _WORDS:
                yield _WORDS[value]
        case list() | tuple() | set() | frozenset() | dict():
            for element in [*value, *value.values()] if isinstance(value, dict) else value:
                yield from _of_value(element, seen)
        case ModuleType():
            yield from _of_module(value.__name__)
        case FunctionType():
            yield from _of_function(value, seen)
        case type():
            yield from _of_class(value, seen)
        case _:
            yield from _of_module(type(value).__module__ or "")


def _of_module(name: str) -> Iterator[str]:
    package = name.partition(".")[0]
    if package in _WORDS:
        yield _WORDS[package]
    elif name.startswith("dlbridge.frameworks."):
        yield from filter(PACKAGES.__contains__, name.split(".")[2:3])


def _of_class(kind: type, seen: set[object]) -> Iterator[str]:
    for base in kind.__mro__:
        module = base.__module__ or ""  # classes that are made at run time may have none
        yield from _of_module(module)
        if module.startswith("tests."):
            for member in vars(base).values():
                if isinstance(member, FunctionType):
                    yield from _of_function(member, seen)


def _of_function(function: FunctionType, seen: set[object]) -> Iterator[str]:
    """What the code of a function names, and what the functions, classes and constants that it uses need."""
    function = inspect.unwrap(function)
    if function in seen:
        return
    seen.add(function)
    yield from _of_module(function.__module__)
    if not function.__module__.startswith("tests."):
        return
    for code in _codes(function.__code__):
        yield from (_WORDS[name] for name in code.co_names if name in _WORDS)
        for constant in code.co_consts:
            if isinstance(constant, str | tuple | frozenset):
                yield from _of_value(constant, seen)
        for name in code.co_names:
            value = function.__globals__.get(name)
            if not (isinstance(value, ModuleType) and value.__name__.startswith("dlbridge")):
                yield from _of_value(value, seen)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function, and of the functions and comprehensions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
