"""Descriptions: YAML or JSON that a person writes, the canonical form, and saved models."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dlbridge.description.document import read
from dlbridge.description.expand import expand
from dlbridge.model import Model


def load(source: str | os.PathLike[str] | Mapping[str, Any]) -> Model:
    """A description as a model."""
    return expand(read(source if isinstance(source, Mapping) else str(source)))
