"""Says whether a folder holds a model that PyTorch users save, without importing torch."""

from __future__ import annotations

import json
from pathlib import Path

from dlbridge.limits import limits

CONFIG = "config.json"


def is_pretrained(path: Path) -> bool:
    """Whether a folder holds a model of transformers: a ``config.json`` that says its class or type."""
    file = path / CONFIG
    if not file.is_file() or file.stat().st_size > limits().text:
        return False
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return False
    return isinstance(config, dict) and ("architectures" in config or "model_type" in config)
