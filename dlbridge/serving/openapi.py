"""The OpenAPI description of the HTTP protocol."""

from __future__ import annotations

from typing import Any


def document() -> dict[str, Any]:
    """The description."""
    return {"openapi": "3.1.0", "info": {"title": "Open Inference Protocol", "version": "2"}, "paths": {}}
