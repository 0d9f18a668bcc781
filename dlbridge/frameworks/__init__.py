"""The frameworks, an open set: what is built in, and what others plug in.

A third party adds a framework through the entry-point group ``dlbridge.frameworks``: the name is the framework's, the
value a class without arguments (or an object) that derives from :class:`Framework`. All that calls frameworks goes over
this registry, so a plug-in is converted to, verified, trained in and listed like those that are built in.

Public for plug-ins: the names in ``__all__``; ``docs/plugins.md`` has the rest.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import warnings
from typing import Any

from dlbridge.errors import DlbridgeError, DlbridgeWarning, suggest
from dlbridge.frameworks.modular import ModularFramework
from dlbridge.frameworks.options import (
    INPUTS,
    CommonReadOptions,
    CommonWriteOptions,
    Flag,
    NoOptions,
    Option,
    declared,
    option,
)
from dlbridge.frameworks.parts import Coverage, Exact, Section, Trainer, Trains
from dlbridge.frameworks.protocol import PLUGIN_HINT, Framework

__all__ = [
    "ENTRY_POINT_GROUP",
    "INPUTS",
    "STANDARD",
    "CommonReadOptions",
    "CommonWriteOptions",
    "Coverage",
    "Exact",
    "Flag",
    "Framework",
    "ModularFramework",
    "NoOptions",
    "Option",
    "Section",
    "Trainer",
    "Trains",
    "all_frameworks",
    "declared",
    "default_trainer",
    "extra_of",
    "get",
    "names",
    "option",
    "reader_of",
    "trainers",
    "write_options",
    "writers",
]

ENTRY_POINT_GROUP = "dlbridge.frameworks"
#: The framework whose runtime, which is not dlbridge's, executes the standard's ops as they are.
STANDARD = "onnx"

_BUILT_IN = {
    "pytorch": "dlbridge.frameworks.pytorch",
    "keras": "dlbridge.frameworks.keras",
    "onnx": "dlbridge.frameworks.onnx",
    "nnx": "dlbridge.frameworks.nnx",
    "tflite": "dlbridge.frameworks.keras.tflite",
    "savedmodel": "dlbridge.frameworks.keras.savedmodel",
}


@functools.cache
def _plugged_in() -> dict[str, Any]:
    """Name -> entry point of the plug-ins. One that has the name of a framework that is built in has no effect."""
    if not any(_declares_plug_ins(folder) for folder in sys.path):
        return {}
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    return {name: found[name] for name in sorted(found) if name not in _BUILT_IN}


def _declares_plug_ins(folder: str) -> bool:
    """Whether a package that is installed in a folder declares a plug-in.

    ``importlib.metadata`` needs a third of the time of ``dlbridge --help`` to find that there is none.
    """
    try:
        packages = [
            entry.path for entry in os.scandir(folder or ".") if entry.name.endswith((".dist-info", ".egg-info"))
        ]
    except OSError:  # not a folder: an archive, or nothing
        return folder.endswith((".egg", ".zip"))
    for package in packages:
        try:
            with open(os.path.join(package, "entry_points.txt"), "rb") as file:
                if ENTRY_POINT_GROUP.encode() in file.read():
                    return True
        except OSError:  # most packages have no entry points
            continue
    return False


def names() -> list[str]:
    """The frameworks that there are, built in and plugged in."""
    return [*_BUILT_IN, *_plugged_in()]


@functools.cache
def get(name: str) -> Framework:
    """The framework of that name.

    Raises:
        DlbridgeError: When there is none, or a plug-in cannot be imported or does not derive from :class:`Framework`.
    """
    if name in _BUILT_IN:
        return importlib.import_module(_BUILT_IN[name]).FRAMEWORK
    entry = _plugged_in().get(name)
    if entry is None:
        raise DlbridgeError(
            f"unknown framework '{name}'", hint=suggest(name, names()) or f"known: {', '.join(names())}"
        )
    try:
        plugin = entry.load()
        plugin = plugin() if isinstance(plugin, type) else plugin
        trouble = _trouble(plugin, name)
    except Exception as error:  # what stands in somebody's package can raise anything
        text = f"the plug-in {entry.value} cannot be loaded: {type(error).__name__}: {error}"
        raise DlbridgeError(text, where=name, hint="DLBRIDGE_DEBUG=1 shows where") from error
    if trouble is not None:
        raise DlbridgeError(f"the plug-in {entry.value} {trouble}", where=name, hint=PLUGIN_HINT)
    return plugin


def _trouble(plugin: Any, name: str) -> str | None:
    """What is wrong with a plug-in; None where it can be used."""
    if not isinstance(plugin, Framework):
        return "does not derive from dlbridge.frameworks.Framework"
    if getattr(plugin, "name", None) != name:
        return f"is registered as '{name}' and calls itself {getattr(plugin, 'name', None)!r}"
    for options in (plugin.ReadOptions, plugin.WriteOptions):
        try:
            options()
            declared(options)
        except TypeError as error:
            return f"has options without a default, or that are no dataclass: {error}"
    return None


def all_frameworks() -> list[Framework]:
    """All frameworks, in the order of ``names``; a plug-in that cannot be loaded is left out, with a warning."""
    return [framework for name in names() if (framework := _get_or_warn(name)) is not None]


def writers() -> list[Framework]:
    """The frameworks that write a model of their own, without those that are another form of one."""
    return [framework for framework in all_frameworks() if not framework.form_of]


@functools.cache
def _get_or_warn(name: str) -> Framework | None:
    if name in _BUILT_IN:
        return get(name)
    try:
        return get(name)
    except DlbridgeError as error:
        warnings.warn(f"the framework '{name}' is left out: {error.message}", DlbridgeWarning, 2)
        return None


def reader_of(live: object) -> Framework | None:
    """The framework that reads a live object; None where none does."""
    return next((framework for framework in all_frameworks() if framework.accepts(live)), None)


def trainers() -> list[str]:
    """The frameworks that train."""
    return [framework.name for framework in all_frameworks() if framework.trains is not None]


def default_trainer() -> str:
    """The framework that trains where the user names none: the first that is installed."""
    installed = [name for name in trainers() if get(name).is_installed]
    return (installed or trainers())[0]


def write_options(name: str, given: dict[str, Any]) -> Any:
    """The options of writing in a framework, checked; one that belongs to a reader is sent there.

    Raises:
        DlbridgeError: When there is no such framework or option, or a value has another type.
    """
    taken_by_readers = {found.name for framework in all_frameworks() for found in declared(framework.ReadOptions)}
    writer = get(name)
    unknown = [key for key in given if key not in {found.name for found in declared(writer.WriteOptions)}]
    hint = None
    if unknown and unknown[0] in taken_by_readers:
        hint = f"what the reader is to know goes into read: read={{'{unknown[0]}': ...}}"
    return writer.write_options(given, hint=hint)


def is_plug_in(name: str) -> bool:
    """Whether a framework of this name is plugged in by another package."""
    return name in _plugged_in()


def plug_in_of(error: BaseException) -> str | None:
    """The plug-in in whose code an error was raised, or that called what raised it; None where there is none."""
    packages = {entry.value.partition(":")[0].partition(".")[0]: name for name, entry in _plugged_in().items()}
    found = None
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        found = packages.get(module, found)
        trace = trace.tb_next
    return found


def extra_of(package: str) -> str | None:
    """The extra of dlbridge that brings a package of a framework; None where none does."""
    return next((f.extra for f in all_frameworks() if f.extra and package in f.packages), None)
