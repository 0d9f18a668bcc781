"""The Python code of Keras layers: which class defines it, what it captures, running it with tensors as variables."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import keras

from dlbridge.frameworks.keras import compat
from dlbridge.frameworks.keras.compat import is_from_keras, is_variable
from dlbridge.frameworks.keras.helpers.normalization import UnbiasedBatchNormalization
from dlbridge.frameworks.keras.helpers.weight import Weight
from dlbridge.frameworks.keras.names import path_part
from dlbridge.frameworks.keras.tracing.recording import TracedTensor
from dlbridge.frameworks.keras.tracing.sizes import SizeBook, SymbolicSize, closure

#: Attributes in which Keras and TensorFlow keep their own records of a layer.
_BOOKKEEPING = re.compile(r"_(non_)?trainable_variables|_layers|_metrics|_seed_generators|_tracker|_self_.*|_obj_.*")

#: Layers that the writer copies into a file that needs them.
_PRINTED = (UnbiasedBatchNormalization, Weight)

#: Layers that are not opened, and why.
_CLOSED = {
    "Lambda": "a Lambda holds Python code; pass trust_code=True (--trust-code) to run it",
    "Hashing": "ONNX has no such hash (FarmHash, SipHash); hash before the model, or look words up (StringLookup)",
    "HashedCrossing": "ONNX has no such hash (FarmHash, SipHash); cross and hash before the model",
    "TFSMLayer": "it runs a TensorFlow SavedModel; export that with tf2onnx and read the ONNX file",
    "TorchModuleWrapper": "it runs a PyTorch module; read that with the PyTorch reader",
    "JaxLayer": "it runs JAX code, which nothing here reads",
    "FlaxLayer": "it runs JAX code, which nothing here reads",
}


def captured_tensors(function: Any, _seen: tuple[Any, ...] = ()) -> list[Any]:
    """The tensors that a function, and the functions that it uses, capture from the code around them."""
    found: list[Any] = []
    for item in keras.tree.flatten(closure(function)):
        if isinstance(item, keras.KerasTensor):
            found.append(item)
        elif inspect.isfunction(item) and item not in _seen:
            found += captured_tensors(item, (*_seen, function))
    return found


@contextmanager
def sizes_of_this_set(function: Any, book: SizeBook) -> Iterator[None]:
    """Within the block, the sizes that a function captured are represented by the book's present set of primes."""
    undo: list[Callable[[], None]] = []
    try:
        _move(function, book, undo, [])
        yield
    finally:
        for step in reversed(undo):
            step()


def _move(function: Any, book: SizeBook, undo: list[Callable[[], None]], seen: list[Any]) -> None:
    def now(item: Any) -> Any:
        if isinstance(item, SymbolicSize):
            return book.symbolic(item.size)
        if isinstance(item, TracedTensor):
            undo.append(functools.partial(setattr, item, "_shape", item._shape))
            item._shape = tuple(now(d) for d in item._shape)
        elif inspect.isfunction(item) and item not in seen:
            _move(item, book, undo, seen)
        return item

    seen.append(function)
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # nothing in it yet
            before = cell.cell_contents
            nest = isinstance(before, (tuple, list, dict))
            after = keras.tree.map_structure(now, before) if nest else now(before)
            if _has_sizes(before):  # a cell that has none is the user's, and stays as it is
                undo.append(functools.partial(setattr, cell, "cell_contents", before))
                cell.cell_contents = after
    if inspect.isfunction(function) and function.__defaults__ and _has_sizes(function.__defaults__):
        undo.append(functools.partial(setattr, function, "__defaults__", function.__defaults__))
        function.__defaults__ = tuple(now(item) for item in function.__defaults__)


def _has_sizes(nest: Any) -> bool:
    nested = isinstance(nest, (tuple, list, dict))
    return any(isinstance(item, SymbolicSize) for item in (keras.tree.flatten(nest) if nested else [nest]))


#: Methods that a subclass may override and still compute what its base class computes.
_NO_COMPUTATION = {
    *("__init__", "__new__", "build", "build_from_config", "compute_output_shape", "compute_output_spec"),
    *("get_config", "from_config", "get_build_config", "get_compile_config", "compile_from_config"),
    *("save_own_variables", "load_own_variables", "save_assets", "load_assets", "count_params"),
    *("__repr__", "__str__", "__doc__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__"),
}


def keras_class(thing: Any) -> type | None:
    """The first class in an object's inheritance that Keras defines, or that the writer prints."""
    return next((kind for kind in type(thing).__mro__ if is_from_keras(kind) or is_printed(kind)), None)


def computes_otherwise(kind: type, own: type) -> bool:
    """Whether a class that inherits one of Keras' own changes what it computes: ``call`` or what that calls, as the
    ``convolution_op`` that Keras' convolutions offer for it."""
    between = kind.__mro__[: kind.__mro__.index(own)]
    return any(hasattr(own, name) and name not in _NO_COMPUTATION for each in between for name in vars(each))


def is_printed(kind: type) -> bool:
    """Whether a class is one that the writer prints into files, with its code unchanged."""
    return any(kind.__name__ == printed.__name__ and _computed(kind) == _computed(printed) for printed in _PRINTED)


def _computed(kind: type) -> dict[str, Any]:
    functions = {name: f.__code__ for name, f in vars(kind).items() if inspect.isfunction(f)}
    return {name: (code.co_code, code.co_consts, code.co_names) for name, code in functions.items()}


def function_of(operation: Any) -> Callable[..., Any]:
    """The function by which a layer or operation computes its result."""
    quantised = isinstance(operation, keras.layers.Layer) and operation.quantization_mode is not None
    return operation.quantized_call if quantised else operation.call


#: Methods by which a class says the shapes and dtypes of its results without computing them.
_STATEMENTS = ("compute_output_spec", "compute_output_shape")


def result_of_call(layer: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """What the code of a layer returns, as tensors without numbers; None where what the layer says of itself holds."""
    if _says_its_result(layer, args, kwargs):
        return None
    try:
        made = function_of(layer)(*args, **kwargs)
    except Exception:  # the code may be the user's; where the layer is opened, it is told what is wrong
        return None
    return keras.tree.map_structure(_without_history, made)


def _without_history(item: Any) -> Any:
    return keras.KerasTensor(item.shape, dtype=item.dtype) if isinstance(item, keras.KerasTensor) else item


def _says_its_result(layer: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether what a layer says of its result (``compute_output_shape``) is about such a call.

    It is not where a subclass has another ``call`` than the class that says it, nor where the call gets tensors that it
    does not ask for: a layer that is given a cache returns it too, and few say so. Keras' own layers say it.
    """
    kinds = type(layer).__mro__
    says = next(((k, name) for k in kinds for name in _STATEMENTS if name in vars(k)), None)
    if says is None or is_from_keras(type(layer)) or says[0] in (keras.layers.Layer, keras.Operation):
        return True
    if any("call" in vars(kind) for kind in kinds[: kinds.index(says[0])]):
        return False
    asked = inspect.signature(getattr(says[0], says[1])).parameters
    given = inspect.signature(layer.call).bind_partial(*args, **kwargs).arguments
    names = [name for name, value in given.items() if _has_tensors(value)]
    return len(names) < 2 or all(name in asked or f"{name}_shape" in asked for name in names)


def _has_tensors(nest: Any) -> bool:
    return any(isinstance(item, keras.KerasTensor) for item in keras.tree.flatten(nest))


def never_opened(operation: Any, trust_code: bool) -> str | None:
    """Why a layer must not be opened; None if it may be."""
    kind = next((k for k in type(operation).__mro__ if is_from_keras(k) and k.__name__ in _CLOSED), None)
    if kind is None or (trust_code and kind.__name__ == "Lambda"):
        return None
    return _CLOSED[kind.__name__]


def shadow(layer: Any, symbol: Callable[[Any], Any], told: Callable[[Any], None], kinds: dict[type, type]) -> Any:
    """A copy of a layer in which variables are replaced by tensors.

    The layer itself is unchanged: its code assigns to attributes of the copy.

    Args:
        layer: The layer.
        symbol: Returns the tensor for a variable.
        told: Called with each loss that the code adds.
        kinds: Class of a layer -> the class of its copies; filled here.
    """
    kind = type(layer)
    if kind not in kinds:
        names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
        plain = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
        of_classes: Any = type(kind)
        kinds[kind] = of_classes(kind.__name__, (kind,), names | plain)
    made: Any = object.__new__(kinds[kind])
    seen: dict[int, Any] = {}

    def replaced(item: Any) -> Any:
        if is_variable(item):
            if id(item) not in seen:
                seen[id(item)] = symbol(item)
            return seen[id(item)]
        if isinstance(item, (list, tuple)) and any(is_variable(i) for i in item):
            return [replaced(i) for i in item]
        if isinstance(item, dict) and any(is_variable(i) for i in item.values()):
            return {key: replaced(i) for key, i in item.items()}
        return item

    kept = {name: item for name, item in vars(layer).items() if _BOOKKEEPING.fullmatch(name)}
    made.__dict__.update({name: replaced(item) for name, item in vars(layer).items()} | kept)
    made.__dict__["add_loss"] = told
    return made


def attribute_of(holder: Any, layer: Any) -> str | None:
    """The attribute by which a layer refers to another: ``proj``, ``blocks.0`` in a list, ``heads.left`` in a dict."""
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


def name_of(operation: Any, holder: Any, leaves: Collection[str]) -> tuple[str, bool]:
    """(the name of a layer or operation where it is called, whether it was made up).

    In a functional model that is its Keras name; in an opened layer, where Keras made up the name, the attribute that
    holds the layer (``blocks.0`` in a list).
    """
    automatic = re.fullmatch(rf"{compat.to_snake_case(type(operation).__name__)}(_\d+)?", operation.name) is not None
    if not isinstance(operation, keras.layers.Layer):
        if automatic:
            return (compat.to_snake_case(type(operation).__name__), True)
        return (path_part(operation.name), False)
    if holder is not None and automatic:
        attribute = attribute_of(holder, operation)
        if attribute is not None:
            return attribute, False
    return path_part(operation.name, leaves), False
