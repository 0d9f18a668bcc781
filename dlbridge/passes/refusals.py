"""Why rules left nodes alone."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """Why a rule left a node alone.

    Attributes:
        rule: The name of the rule.
        node: The name of the node.
        why: The condition that does not hold.
    """

    rule: str
    node: str
    why: str


TRACED: contextvars.ContextVar[list[Refusal] | None] = contextvars.ContextVar("traced", default=None)


@contextlib.contextmanager
def trace() -> Iterator[list[Refusal]]:
    """Collect why rules leave nodes alone, for as long as the context lasts."""
    found: list[Refusal] = []
    token = TRACED.set(found)
    try:
        yield found
    finally:
        TRACED.reset(token)
