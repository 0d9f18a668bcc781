"""What is used of Keras' private API is there in the installed version, and nowhere but in ``compat`` imported."""

from __future__ import annotations

import ast
from pathlib import Path

import keras
import numpy as np

from dlbridge.frameworks.keras import compat

FOLDER = Path(compat.__file__).parent


def test_private_modules_are_imported_in_one_place():
    found = {}
    for file in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(m.startswith("keras.src") for m in modules):
                found.setdefault(file.relative_to(FOLDER).as_posix(), []).extend(modules)
    assert set(found) == {"compat.py"}


def test_what_keras_keeps_of_a_layer():
    layer = keras.layers.Dense(2)
    layer(np.zeros((1, 3), "float32"))
    for name in (
        "_trainable_variables",
        "_non_trainable_variables",
        "_layers",
        "_inbound_nodes",
        "_call_has_mask_arg",
        "_call_has_training_arg",
        "_convert_input_args",
        "_get_call_context",
        "_flatten_layers",
        "_initializer",
    ):
        holder = layer if name != "_initializer" else layer.kernel
        assert hasattr(holder, name), name


def test_keras_tells_the_operation_of_a_tensor_of_each_call():
    """What a recording rests on."""

    class Listener:
        def __init__(self):
            self._outbound_nodes, self._inbound_nodes = [], []

    x, listener = keras.KerasTensor((2, 3)), Listener()
    x._keras_history = compat.KerasHistory(listener, 0, 0)
    y = keras.ops.add(x, x)
    assert [o is y for node in listener._outbound_nodes for o in node.outputs] == [True, True]


def test_names_are_counted_as_if_nothing_had_been_named():
    keras.layers.Dense(2)
    before = keras.layers.Dense(2).name
    with compat.counters_kept():
        keras.layers.Dense(2)
    number = int(before.rpartition("_")[2]) + 1
    assert keras.layers.Dense(2).name == f"dense_{number}"
    with compat.counters_kept(fresh=True):
        assert keras.layers.Dense(2).name == "dense"


def test_wrappers_are_there_for_the_time_of_a_read_alone():
    def functions():
        return [getattr(module, name) for module, name, _ in compat.seams()]

    before = functions()
    with compat.wrapped():
        with compat.wrapped():
            assert all(a is not b for a, b in zip(functions(), before, strict=True))
        assert all(a is not b for a, b in zip(functions(), before, strict=True))
        assert isinstance(keras.ops.arange(3), type(keras.ops.convert_to_tensor([1])))
    assert all(a is b for a, b in zip(functions(), before, strict=True))
