"""The code of the classes that a live model was made of, to show it beside what is written."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable
from contextlib import suppress


def class_sources(parts: Iterable[object], library: str) -> dict[str, str]:
    """Name of a class -> its code, of the modules or layers of a model; those of the framework itself are left out.

    Args:
        parts: The modules or layers.
        library: The package of the framework.
    """
    found: dict[str, str] = {}
    for kind in map(type, parts):
        if kind.__name__ in found or kind.__module__.split(".")[0] == library:
            continue
        with suppress(OSError, TypeError):  # made in an interpreter, or in another language
            found[kind.__name__] = textwrap.dedent(inspect.getsource(kind))
    return found
