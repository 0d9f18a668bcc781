"""Rules stand in packages, one module a family, and are registered when these are imported."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def import_rules(*packages: ModuleType) -> None:
    """Import all modules of packages (``reads``, ``writes``)."""
    for package in packages:
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
