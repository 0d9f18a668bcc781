"""Functions of arrays by their names in ``keras.ops``, as helpers that are written once call them.

Nothing here runs: a helper is copied into a printed file, where each function is called as the framework calls it
(``source.arrays.spelling``).
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    raise AttributeError(f"a helper that is written once runs in printed files alone: {name}")
