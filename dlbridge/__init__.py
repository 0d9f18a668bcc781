"""dlbridge: one neutral model; PyTorch, Keras and ONNX on every side of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlbridge.api import convert, evaluate, load, predict, pull, train, verify
    from dlbridge.errors import DlbridgeError
    from dlbridge.model import Model

__version__ = "0.1.0"
__all__ = [
    "DlbridgeError",
    "Model",
    "__version__",
    "convert",
    "evaluate",
    "load",
    "predict",
    "pull",
    "train",
    "verify",
]

_HOMES = {
    "load": "dlbridge.api",
    "convert": "dlbridge.api",
    "evaluate": "dlbridge.api",
    "predict": "dlbridge.api",
    "pull": "dlbridge.api",
    "train": "dlbridge.api",
    "verify": "dlbridge.api",
    "Model": "dlbridge.model",
    "DlbridgeError": "dlbridge.errors",
}


def __getattr__(name: str) -> object:
    # Names are looked up when used, so that importing dlbridge costs nothing (PEP 562).
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dlbridge' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
