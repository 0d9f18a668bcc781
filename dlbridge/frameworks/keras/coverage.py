"""What of Keras is read and written: its rules, and its layers and operations beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import keras

from dlbridge.frameworks import Coverage, Section
from dlbridge.frameworks.keras import reads, writes
from dlbridge.frameworks.keras.graph import call_site
from dlbridge.frameworks.keras.rules import rules
from dlbridge.frameworks.rule_modules import import_rules

_LAYERS = "A layer without a rule is opened: called on symbolic tensors, which records its ops."
_OPERATIONS = "By the classes that record the functions of `keras.ops`; other functions call these."


def coverage() -> Coverage:
    """All rules, loaded."""
    import_rules(reads, writes)
    return Coverage(rules.table, {"keras layers": call_site.LAYERS, "keras ops": call_site.OPERATIONS}, _sections)


def _sections(used: Mapping[str, Mapping[str, list[str]]]) -> list[Section]:
    layers = [n for n in dir(keras.layers) if isinstance(getattr(keras.layers, n), type)]
    return [
        Section(
            "keras.layers", _LAYERS, "layer", _rows(layers, call_site.LAYERS, used.get("keras layers", {}), "opened")
        ),
        Section(
            "keras.ops", _OPERATIONS, "op", _rows(_operations(), call_site.OPERATIONS, used.get("keras ops", {}), "no")
        ),
    ]


def _rows(
    known: Iterable[str], table: Iterable[str], used: Mapping[str, list[str]], missing: str
) -> list[tuple[str, str, list[str]]]:
    has_rule = set(table)
    return [(n, "yes" if n in has_rule else missing, used.get(n, [])) for n in sorted({*known, *has_rule})]


def _operations() -> list[str]:
    """The classes of Keras' operations, which are where its functions are."""
    modules = [keras.src.ops.__dict__[n] for n in ("numpy", "nn", "core", "math", "linalg", "image")]
    return [
        name
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, keras.Operation) and value.__module__ == module.__name__
    ]
