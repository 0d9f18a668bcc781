"""Keras' private API, in one place, and the points at which code that is recorded leaves the usual course of Keras.

``tests/frameworks/keras/test_compat.py`` asks for all of it of the installed Keras.

Keras has no way to run a layer's code on tensors without numbers where that code calls the backend, nor to record a
tensor that is made of sizes alone. For as long as some thread records, such functions of Keras are wrapped. A wrapper
asks for the scope of its own thread, and outside of a ``RecordingScope`` calls the function that it wraps: other
threads, and what Keras runs in scopes of its own, get what they always get.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras.src import backend
from keras.src.backend.common import global_state
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.models.functional import Functional
from keras.src.models.sequential import Sequential
from keras.src.ops.function import Function
from keras.src.ops.node import KerasHistory
from keras.src.ops.numpy import Add, Arange, Einsum, Full, GetItem
from keras.src.saving import saving_lib
from keras.src.utils.naming import to_snake_case

#: What others take from here and Keras has elsewhere.
__all__ = [
    "Add",
    "Arange",
    "Full",
    "Function",
    "Functional",
    "GetItem",
    "KerasHistory",
    "Sequential",
    "backend",
    "get_keras_mask",
    "set_keras_mask",
    "to_snake_case",
]

#: Names of the attributes that Keras keeps for each thread.
_COUNTERS = "object_name_uids"


# --- what Keras keeps for each thread ---------------------------------------------------------------------------------


@contextmanager
def attributes_kept(*names: str) -> Iterator[None]:
    """Within the block, Keras' attributes of this thread may change; afterwards they have their former values."""
    before = {name: global_state.get_global_attribute(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            global_state.set_global_attribute(name, value)


@contextmanager
def counters_kept(fresh: bool = False) -> Iterator[None]:
    """Let the numbers that Keras appends to names (``dense_1``) go on afterwards as if nothing had been named inside.

    Args:
        fresh: Start without any, as a new process does.
    """
    with attributes_kept(_COUNTERS):
        before = global_state.get_global_attribute(_COUNTERS)
        counters = type(before)(before.default_factory) if before is not None else None
        if counters is not None and not fresh:
            counters.update(before)
        global_state.set_global_attribute(_COUNTERS, counters)
        yield


@contextmanager
def variables_forgotten() -> Iterator[None]:
    """Forget the variables that are registered inside: the end of the next stateless scope would make them."""
    pending = "uninitialized_variables"
    before = list(global_state.get_global_attribute(pending, []))
    try:
        yield
    finally:
        global_state.set_global_attribute(pending, before)


@contextmanager
def own_attributes_skipped() -> Iterator[None]:
    """Tell Keras once which attributes of its own saving leaves out: 3.15 puts these away under another name than the
    one it looks for, and makes a layer for each layer that it saves."""
    names = {f"saving_attr_skiplist_{kind}": kind for kind in ("Layer", "Functional")}
    with attributes_kept(*names):
        for name, kind in names.items():
            global_state.set_global_attribute(name, saving_lib.get_attr_skipset(kind))
        yield


@contextmanager
def inference(layer: Any, training: bool = False) -> Iterator[None]:
    """Tell the layers that a layer calls whether this is training, as Keras does when it calls the layer."""
    if not isinstance(layer, keras.layers.Layer):
        yield
        return
    with attributes_kept("current_call_ctx"):
        context = layer._get_call_context()
        old = context.get_value("training")
        context.set_value("training", training)
        try:
            yield
        finally:
            context.set_value("training", old)


# --- classes and variables --------------------------------------------------------------------------------------------


def is_from_keras(kind: type) -> bool:
    """Whether a class is defined by Keras."""
    return kind.__module__.startswith("keras.src.")


@functools.cache
def own_operations() -> frozenset[str]:
    """The names of the classes of Keras' operations: each call of ``keras.ops`` makes one, and names it after them."""
    found, pending = set(), [keras.Operation]
    while pending:
        for kind in pending.pop().__subclasses__():
            pending.append(kind)
            if is_from_keras(kind) and not issubclass(kind, keras.layers.Layer):
                found.add(kind.__name__)
    return frozenset(found)


def is_variable(item: Any) -> bool:
    """Whether an object is a variable, of Keras or of its backend."""
    return isinstance(item, keras.Variable) or raw_variable(item)


def raw_variable(item: Any) -> bool:
    """Whether an object is a variable of the backend that is not wrapped in a Keras variable."""
    if isinstance(item, keras.Variable):
        return False
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return isinstance(item, tf.Variable)
    if keras.backend.backend() == "torch":
        return isinstance(item, sys.modules["torch"].nn.Parameter)
    return False


# --- the points at which recorded code leaves the usual course --------------------------------------------------------


class RecordingScope(keras.StatelessScope):
    """Code that runs in this scope, in this thread, is recorded; nothing that it assigns reaches a variable.

    A subclass says what is done with calls of the functions that are wrapped.

    Attributes:
        inside: Names of the wrapped functions of the backend that are running.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inside: set[str] = set()

    def symbols(self, item: Any) -> Any:
        """The arguments of a call, variables as tensors without numbers."""
        raise NotImplementedError

    def created(self, name: str, arguments: dict[str, Any]) -> Any:
        """The tensor that ``keras.ops.arange``, say, or ``keras.ops.cast`` makes of sizes that are not known, recorded;
        None where all numbers are known."""
        raise NotImplementedError

    def result_of(self, layer: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """What a layer's call returns, as tensors without numbers; None where what the layer says of itself holds."""
        raise NotImplementedError

    def drawn(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The result of a function of ``keras.random``, as a tensor without numbers."""
        raise NotImplementedError


def _wrapped(original: Callable[..., Any], act: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        scope = get_stateless_scope()
        if not isinstance(scope, RecordingScope):
            return original(*args, **kwargs)
        return act(scope, original, *args, **kwargs)

    return call


def _redirected(name: str, public: Callable[..., Any]) -> Callable[..., Any]:
    """The public function of ``keras.ops`` in the place of the backend's, on tensors without numbers."""

    def act(scope: RecordingScope, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if name in scope.inside:  # some functions of keras.ops call the backend's own on tensors without numbers
            return original(*args, **kwargs)
        args, kwargs = scope.symbols(args), scope.symbols(kwargs)
        if not backend.any_symbolic_tensors(args, kwargs):
            return original(*args, **kwargs)
        scope.inside.add(name)
        try:
            return public(*args, **kwargs)
        finally:
            scope.inside.discard(name)

    return act


def _creator(name: str, signature: inspect.Signature) -> Callable[..., Any]:
    def act(scope: RecordingScope, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            arguments = dict(signature.bind(*args, **kwargs).arguments)
        except TypeError:  # the function itself says what is wrong
            return original(*args, **kwargs)
        made = scope.created(name, arguments)
        return original(*args, **kwargs) if made is None else made

    return act


def _forward(scope: RecordingScope, original: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is given another gradient, on tensors without numbers: its result alone."""
    return functools.wraps(function)(lambda *args, **kwargs: function(*args, **kwargs)[0])


def _einsum_spec(
    scope: RecordingScope, original: Callable[..., Any], operation: Any, *operands: Any, **_: Any
) -> keras.KerasTensor:
    """The result of an Einsum. Keras' own function takes no capital letters, and an ellipsis only at the front."""
    inputs, arrow, output = operation.subscripts.replace(" ", "").partition("->")
    sizes: dict[str, Any] = {}
    for spec, operand in zip(inputs.split(","), operands, strict=True):
        before, dots, after = spec.partition("...")
        free = len(operand.shape) - len(before) - len(after) if dots else 0
        labels = [*before, *(f".{i}" for i in range(-free, 0)), *after]
        for label, size in zip(labels, operand.shape, strict=True):
            if sizes.get(label, 1) == 1:
                sizes[label] = size
    free_labels = sorted((s for s in sizes if s.startswith(".")), key=lambda s: int(s[1:]))
    if not arrow:
        once = [label for label in sorted(set(inputs)) if label.isalpha() and inputs.count(label) == 1]
        output = "..." + "".join(once)
    before, dots, after = output.partition("...")
    kept = [*before, *(free_labels if dots else ()), *after]
    kinds = {keras.backend.standardize_dtype(operand.dtype) for operand in operands}
    dtype = "int32" if kinds == {"int8"} else keras.backend.result_type(*kinds)
    return keras.KerasTensor([sizes[label] for label in kept], dtype=dtype)


def _layer_result(scope: RecordingScope, original: Callable[..., Any], layer: Any, *args: Any, **kwargs: Any) -> Any:
    found = scope.result_of(layer, args, kwargs)
    return original(layer, *args, **kwargs) if found is None else found


def _random(name: str) -> Callable[..., Any]:
    def act(scope: RecordingScope, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return scope.drawn(name, *args, **kwargs)

    return act


def seams() -> list[tuple[Any, str, Any]]:
    """(module, name, wrapper of the function that is there now) of all that is wrapped while some thread records."""
    found = []
    modules = [getattr(backend, m) for m in ("numpy", "nn", "math", "linalg", "image", "core")]
    for module in [backend, sys.modules[backend.core.__package__], *modules]:
        for name, original in list(vars(module).items()):
            public = getattr(keras.ops, name, None) or getattr(keras.ops.image, name, None)
            if inspect.isfunction(original) and inspect.isfunction(public) and original is not public:
                found.append((module, name, _wrapped(original, _redirected(name, public))))
    makers = ("arange", "eye", "full", "identity", "linspace", "ones", "tri", "zeros")
    for name in (*makers, "cast", "convert_to_tensor"):
        for module in (keras.ops, keras.ops.numpy, keras.src.ops, keras.src.ops.numpy, keras.src.ops.core):
            original = getattr(module, name, None)
            if original is not None:
                act = _creator(name, inspect.signature(original))
                found.append((module, name, _wrapped(original, act)))
    for module in (keras.ops, keras.src.ops, keras.src.ops.core, backend.core):
        found.append((module, "custom_gradient", _wrapped(module.custom_gradient, _forward)))
    found.append((Einsum, "compute_output_spec", _wrapped(Einsum.compute_output_spec, _einsum_spec)))
    kind = keras.layers.Layer
    found.append((kind, "symbolic_call", _wrapped(kind.symbolic_call, _layer_result)))
    for name, original in list(vars(keras.random).items()):
        if inspect.isfunction(original) and not name.startswith("_") and name != "dropout":
            for module in (keras.random, keras.src.random):
                if hasattr(module, name):
                    found.append((module, name, _wrapped(getattr(module, name), _random(name))))
    return found


def lookup_of(layer: Any) -> Any:
    """The ``StringLookup`` that a ``TextVectorization`` looks words up with."""
    return layer._lookup_layer


_lock = threading.RLock()
#: A token for each read that is under way, and what has been wrapped for them: (module, name, original, wrapper).
_reads: set[object] = set()
_installed: list[tuple[Any, str, Any, Any]] = []


@contextmanager
def wrapped() -> Iterator[None]:
    """Let a ``RecordingScope`` record what its thread calls, for as long as the context lasts."""
    token = object()
    try:
        with _lock:
            _reads.add(token)
            if not _installed:
                for module, name, wrapper in seams():
                    _installed.append((module, name, getattr(module, name), wrapper))
                    setattr(module, name, wrapper)
        yield
    finally:
        with _lock:
            _reads.discard(token)
            while _installed and not _reads:
                module, name, original, wrapper = _installed[-1]
                if getattr(module, name) is wrapper:
                    setattr(module, name, original)
                _installed.pop()
