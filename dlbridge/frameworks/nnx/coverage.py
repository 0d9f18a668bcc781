"""What is written as Flax NNX: its rules."""

from __future__ import annotations

from dlbridge.frameworks import Coverage
from dlbridge.frameworks.nnx import writes
from dlbridge.frameworks.nnx.rules import rules
from dlbridge.frameworks.rule_modules import import_rules


def coverage() -> Coverage:
    """All rules, loaded."""
    import_rules(writes)
    return Coverage(writes=rules.table)
