"""Further calls of a module."""

from __future__ import annotations

from dlbridge.frameworks.pytorch.rules import rules
from dlbridge.source.condense.repeats import DOMAIN, further_call

rules("Call", domain=DOMAIN)(further_call)
