"""An op that is a function of arrays is written once: each writer over arrays has it from there."""

import importlib
import pkgutil

import pytest

from dlbridge import frameworks
from dlbridge.source import arrays


def _shared():
    modules = [
        importlib.import_module(f"{arrays.__name__}.{found.name}") for found in pkgutil.iter_modules(arrays.__path__)
    ]
    families = [value for module in modules for value in vars(module).values() if isinstance(value, arrays.Family)]
    return {key for family in families for key in family.table}


@pytest.mark.pytorch
@pytest.mark.keras
@pytest.mark.parametrize("name", ["pytorch", "keras", "nnx"])
def test_every_shared_rule_is_a_rule_of_the_writer(name):
    missing = _shared() - set(frameworks.get(name).coverage().writes)
    assert not missing, f"adopt the family in dlbridge/frameworks/{name}/writes/arrays.py: {sorted(missing)}"
