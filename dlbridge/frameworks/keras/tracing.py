"""Running Keras code on ``KerasTensor``s: tensors of values, variables as tensors, where a layer is held."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import onnx_ir as ir
from keras.src.backend.common import global_state

from dlbridge.frameworks.keras.building import IR_DTYPES

#: IR dtype -> Keras' name of it.
_NAMES = {dtype: name for name, dtype in IR_DTYPES.items()}
#: What Keras and TensorFlow keep about a layer in its ``__dict__``, which is no attribute of the user's.
_BOOKKEEPING = re.compile(r"_(non_)?trainable_variables|_layers|_metrics|_seed_generators|_tracker|_self_.*|_obj_.*")

#: Layers that are not opened, and why.
_CLOSED = {
    "Lambda": "a Lambda holds Python code; pass trust_code=True (--trust-code) to run it",
    "Hashing": "ONNX has no hashing of strings or integers as Keras does it",
    "HashedCrossing": "ONNX has no hashing of strings or integers as Keras does it",
    "StringLookup": "ONNX has no strings that a model here could take; look them up before the model",
    "TextVectorization": "ONNX has no strings that a model here could take; vectorize before the model",
    "TFSMLayer": "it runs a TensorFlow SavedModel; export that with tf2onnx and read the ONNX file",
    "TorchModuleWrapper": "it runs a PyTorch module; read that with the PyTorch reader",
    "JaxLayer": "it runs JAX code, which nothing here reads",
    "FlaxLayer": "it runs JAX code, which nothing here reads",
}


class SymbolicVariable(keras.KerasTensor):
    """A variable as a tensor without numbers."""

    @property
    def value(self) -> SymbolicVariable:
        return self


def symbolic(value: ir.Value) -> keras.KerasTensor:
    """A tensor without numbers, of the shape and dtype of a value."""
    assert value.dtype is not None and value.shape is not None, value.name
    kind = SymbolicVariable if value.is_initializer() else keras.KerasTensor
    return kind([d if isinstance(d, int) else None for d in value.shape], dtype=_NAMES[value.dtype])


def is_own(kind: type) -> bool:
    """Whether a class is Keras' own."""
    return kind.__module__.startswith("keras.src.")


def never_opened(operation: Any, trust_code: bool) -> str | None:
    """Why a layer must not be opened; None when it may."""
    kind = next((k for k in type(operation).__mro__ if is_own(k) and k.__name__ in _CLOSED), None)
    return None if kind is None or (trust_code and kind.__name__ == "Lambda") else _CLOSED[kind.__name__]


@functools.cache
def _redirections() -> list[tuple[Any, str, Any, Any]]:
    """(module, name, the backend's function, one that takes tensors without numbers too)."""
    found = []
    modules = [getattr(keras.src.backend, m) for m in ("numpy", "nn", "math", "linalg", "image", "core")]
    for module in [keras.src.backend, *modules]:
        for name, original in list(vars(module).items()):
            public = getattr(keras.ops, name, None)
            if inspect.isfunction(original) and inspect.isfunction(public) and original is not public:
                found.append((module, name, original, _redirected(original, public)))
    return found


def _redirected(original: Callable[..., Any], public: Callable[..., Any]) -> Callable[..., Any]:
    active = False  # some functions of keras.ops call the backend's own on tensors without numbers

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal active
        if active or not keras.src.backend.any_symbolic_tensors(args, kwargs):
            return original(*args, **kwargs)
        active = True
        try:
            return public(*args, **kwargs)
        finally:
            active = False

    return call


@contextmanager
def redirected() -> Iterator[None]:
    """Let code that calls the backend's functions on tensors without numbers call ``keras.ops`` of the same name."""
    swaps = _redirections()
    if getattr(swaps[0][0], swaps[0][1]) is swaps[0][3]:
        yield  # one is within another
        return
    for module, name, _, new in swaps:
        setattr(module, name, new)
    try:
        yield
    finally:
        for module, name, original, _ in swaps:
            setattr(module, name, original)


@contextmanager
def inference(layer: Any) -> Iterator[None]:
    """Let the layers that a layer calls know that this is no training, as they do when Keras calls it."""
    if not isinstance(layer, keras.layers.Layer):
        yield
        return
    before = global_state.get_global_attribute("current_call_ctx")
    context = layer._get_call_context()
    old = context.get_value("training")
    context.set_value("training", False)
    try:
        yield
    finally:
        context.set_value("training", old)
        global_state.set_global_attribute("current_call_ctx", before)


@contextmanager
def symbolic_variables(layer: Any, symbol: Callable[[Any], Any]) -> Iterator[None]:
    """Let tensors stand in the attributes of a layer that are variables, for as long as the context lasts."""
    if layer is None:
        yield
        return
    before = dict(layer.__dict__)
    seen: dict[int, Any] = {}

    def replaced(item: Any) -> Any:
        if isinstance(item, keras.Variable):
            if id(item) not in seen:
                seen[id(item)] = symbol(item)
            return seen[id(item)]
        if isinstance(item, (list, tuple)) and any(isinstance(i, keras.Variable) for i in item):
            return [replaced(i) for i in item]
        if isinstance(item, dict) and any(isinstance(i, keras.Variable) for i in item.values()):
            return {key: replaced(i) for key, i in item.items()}
        return item

    for name, item in before.items():
        if not _BOOKKEEPING.fullmatch(name):
            layer.__dict__[name] = replaced(item)
    try:
        yield
    finally:
        layer.__dict__.update(before)


def attribute_of(holder: Any, layer: Any) -> str | None:
    """The attribute of a layer that holds another: ``proj``, ``blocks.0`` in a list, ``heads.left`` in a dict."""
    for name, item in vars(holder).items():
        if _BOOKKEEPING.fullmatch(name):
            continue
        if item is layer:
            return name.strip("_")
        if isinstance(item, (list, tuple)):
            for index, one in enumerate(item):
                if one is layer:
                    return f"{name}.{index}"
        elif isinstance(item, dict):
            for key, one in item.items():
                if one is layer:
                    return f"{name}.{key}"
    return None
