"""Running Keras code on ``KerasTensor``s: tensors of values, variables as tensors, where a layer is held."""

from __future__ import annotations

import functools
import inspect
import re
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import keras
import onnx_ir as ir
from keras.src.backend.common import global_state
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.utils.naming import to_snake_case

from dlbridge.frameworks.keras.building import IR_DTYPES
from dlbridge.frameworks.keras.helpers.normalization import UnbiasedBatchNormalization
from dlbridge.frameworks.keras.helpers.weight import Weight
from dlbridge.frameworks.keras.names import path_part
from dlbridge.frameworks.keras.sizes import SizeBook, SymbolicSize, UnknownSizeError, closure

#: IR dtype -> Keras' name of it.
_NAMES = {dtype: name for name, dtype in IR_DTYPES.items()}
#: What Keras and TensorFlow keep about a layer in its ``__dict__``, which is no attribute of the user's.
_BOOKKEEPING = re.compile(r"_(non_)?trainable_variables|_layers|_metrics|_seed_generators|_tracker|_self_.*|_obj_.*")

#: Layers that the writer prints into a file where a model needs them.
_PRINTED = (UnbiasedBatchNormalization, Weight)

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


class RandomError(Exception):
    """Code draws random numbers where they are part of the result."""


class SymbolicVariable(keras.KerasTensor):
    """A variable as a tensor without numbers."""

    @property
    def value(self) -> SymbolicVariable:
        return self


def symbolic(value: ir.Value, book: SizeBook) -> keras.KerasTensor:
    """A tensor without numbers, of the shape and dtype of a value."""
    assert value.dtype is not None and value.shape is not None, value.name
    kind = SymbolicVariable if value.is_initializer() else keras.KerasTensor
    return kind([book.of_axis(value, axis) for axis in range(len(value.shape))], dtype=_NAMES[value.dtype])


def recorded(result: Any, book: SizeBook, outer: Collection[Any] = ()) -> list[Any]:
    """What was recorded on the way to a result: operations with their arguments, in the order of a walk.

    The walk ends at the tensors ``outer``.
    """
    found, seen, ends = [], set(), {id(t) for t in outer}
    pending = [t for t in keras.tree.flatten(result) if isinstance(t, keras.KerasTensor)]
    while pending:
        tensor = pending.pop()
        history = getattr(tensor, "_keras_history", None) if id(tensor) not in ends else None
        if history is None or history.operation is None or (id(history.operation), history.node_index) in seen:
            continue
        seen.add((id(history.operation), history.node_index))
        node = history.operation._inbound_nodes[history.node_index]
        own = {} if isinstance(history.operation, keras.layers.Layer) else _settings(history.operation)
        found.append([type(history.operation).__name__, book.plain([node.arguments.args, node.arguments.kwargs, own])])
        pending.extend(node.input_tensors)
    return found


def taken(function: Any, _seen: tuple[Any, ...] = ()) -> list[Any]:
    """The tensors that a function, and the functions that it uses, take from the code around them."""
    found: list[Any] = []
    for item in keras.tree.flatten(closure(function)):
        if isinstance(item, keras.KerasTensor):
            found.append(item)
        elif inspect.isfunction(item) and item not in _seen:
            found += taken(item, (*_seen, function))
    return found


@contextmanager
def in_this_set(function: Any, book: SizeBook) -> Iterator[None]:
    """Let the sizes that a function takes from the code around it stand as the book's primes of now."""
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
        if isinstance(item, keras.KerasTensor):
            undo.append(functools.partial(setattr, item, "_shape", item._shape))
            item._shape = tuple(now(d) for d in item._shape)
        elif inspect.isfunction(item) and item not in seen:
            _move(item, book, undo, seen)
        return item

    seen.append(function)
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # nothing in it yet
            before = cell.cell_contents
            undo.append(functools.partial(setattr, cell, "cell_contents", before))
            nest = isinstance(before, (tuple, list, dict))
            cell.cell_contents = keras.tree.map_structure(now, before) if nest else now(before)
    if inspect.isfunction(function) and function.__defaults__:
        undo.append(functools.partial(setattr, function, "__defaults__", function.__defaults__))
        function.__defaults__ = tuple(now(item) for item in function.__defaults__)


def _settings(operation: Any) -> dict[str, Any]:
    kept = ("name", "_inbound_nodes", "_outbound_nodes", "_lock", "_auto_config", "_remat_mode")
    return {k: v for k, v in vars(operation).items() if k not in kept and not k.startswith("_self_")}


def is_own(kind: type) -> bool:
    """Whether a class is Keras' own."""
    return kind.__module__.startswith("keras.src.")


def is_printed(kind: type) -> bool:
    """Whether a class is one that the writer prints into a file, and computes what it did there."""
    return any(kind.__name__ == printed.__name__ and _computed(kind) == _computed(printed) for printed in _PRINTED)


def _computed(kind: type) -> dict[str, Any]:
    functions = {name: f.__code__ for name, f in vars(kind).items() if inspect.isfunction(f)}
    return {name: (code.co_code, code.co_consts, code.co_names) for name, code in functions.items()}


def function_of(operation: Any) -> Callable[..., Any]:
    """What a layer or operation computes its result by."""
    quantised = isinstance(operation, keras.layers.Layer) and operation.quantization_mode is not None
    return operation.quantized_call if quantised else operation.call


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
def redirected(book: SizeBook) -> Iterator[None]:
    """Let code run on tensors without numbers: what it calls of the backend is ``keras.ops`` of the same name, shapes
    keep the sizes that are not known, and constants that may depend on those are recorded too."""
    backend = keras.src.backend
    getter = (keras.KerasTensor, "__getitem__", keras.KerasTensor.__getitem__, _get_item)
    swaps = [*_redirections(), *_creators(), getter, (backend, "standardize_shape", backend.standardize_shape, None)]
    standardize = backend.standardize_shape
    swaps += [*_randoms(), *_gradients()]
    einsum = keras.src.ops.numpy.Einsum
    swaps.append((einsum, "compute_output_spec", einsum.compute_output_spec, _einsum_spec))
    # Keras takes what is multiplied by a number for sparse, and then calls layers on sparse tensors.
    swaps.append((keras.KerasTensor, "sparse", keras.KerasTensor.sparse, property(lambda tensor: False)))
    for module, name, _, new in swaps:
        setattr(module, name, new or (lambda shape: book.of_shape(standardize(shape))))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warned when the model was made; here the sizes are made up
            yield
    finally:
        for module, name, original, _ in reversed(swaps):
            setattr(module, name, original)


@functools.cache
def _creators() -> list[tuple[Any, str, Any, Any]]:
    """As :func:`_redirections`, of the functions of keras.ops that make tensors of sizes."""
    found = []
    for name, make in (("arange", _arange), ("zeros", _filled(0)), ("ones", _filled(1)), ("full", _full)):
        for module in (keras.ops, keras.ops.numpy, keras.src.ops, keras.src.ops.numpy):
            original = getattr(module, name, None)
            if original is not None:
                found.append((module, name, original, _recording(original, make)))
    return found


@functools.cache
def _randoms() -> list[tuple[Any, str, Any, Any]]:
    """As :func:`_redirections`, of the functions of keras.random: what they draw now must not become a constant."""
    modules = (keras.random, keras.src.random)
    names = [n for n in vars(keras.random) if inspect.isfunction(getattr(keras.random, n)) and not n.startswith("_")]
    found = [(m, n, getattr(m, n), _random(n)) for m in modules for n in names if hasattr(m, n)]
    return [swap for swap in found if swap[1] != "dropout"]


def _random(name: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RandomError(f"it draws random numbers at inference (keras.random.{name})")

    return refuse


@functools.cache
def _gradients() -> list[tuple[Any, str, Any, Any]]:
    """As :func:`_redirections`, of what gives a function another gradient: of tensors without numbers, its result."""

    def forward(function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(function)(lambda *args, **kwargs: function(*args, **kwargs)[0])

    modules = (keras.ops, keras.src.ops, keras.src.ops.core, keras.src.backend.core)
    return [(m, "custom_gradient", m.custom_gradient, forward) for m in modules]


def _recording(original: Callable[..., Any], make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if in_stateless_scope():  # Keras finds a shape by running code on the backend's own tensors
            return original(*args, **kwargs)
        made = make(*args, **kwargs)
        return original(*args, **kwargs) if made is None else made

    return call


def _arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
    plain = all(v is None or isinstance(v, int) for v in (start, stop, step))
    if not plain and dtype is None:
        return None
    first, last = (0, start) if stop is None else (start, stop)
    step = 1 if step is None else step
    operation = keras.src.ops.numpy.Arange(dtype=dtype or "int32")
    if any(isinstance(v, SymbolicSize) for v in (first, last)) and isinstance(step, int):
        count = (last - first + step - 1) // step
        operation.compute_output_spec = lambda *_: keras.KerasTensor((count,), dtype=operation.dtype)
    return operation.symbolic_call(first, last, step)


def _get_item(tensor: Any, key: Any) -> Any:
    """``tensor[key]``; a slice up to a size that is not known is as long as that says (Keras would cut it at a size
    that stands for it), and a slice may stand alone."""
    keys = list(key) if isinstance(key, (tuple, list)) else [key]
    operation = keras.src.ops.numpy.GetItem()
    if any(isinstance(k, slice) and any(isinstance(e, SymbolicSize) for e in (k.start, k.stop)) for k in keys):
        plain = [slice(None) if isinstance(k, slice) else k for k in keys]
        shape = list(operation.compute_output_spec(tensor, tuple(plain)).shape)
        place = 0
        for one in keys[: keys.index(Ellipsis) if Ellipsis in keys else None]:
            if isinstance(one, slice):
                shape[place] = _length(one, shape[place])
            place += not isinstance(one, int)
        operation.compute_output_spec = lambda *_: keras.KerasTensor(shape, dtype=tensor.dtype)
    return operation.symbolic_call(tensor, tuple(keys))


def _einsum_spec(operation: Any, *operands: Any, **_: Any) -> keras.KerasTensor:
    """What comes out of an Einsum. Keras' own takes no capital letters, and an ellipsis only at the front."""
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


def _length(one: slice, size: int) -> int:
    if one.step not in (None, 1):
        raise UnknownSizeError("it takes every n-th element up to a size that is not known")
    start = 0 if one.start is None else one.start
    stop = size if one.stop is None else one.stop
    from_end = [
        all(c < 0 for c in e.size.terms.values()) if isinstance(e, SymbolicSize) else e < 0 for e in (start, stop)
    ]
    start, stop = (size + e if back else e for e, back in zip((start, stop), from_end, strict=True))
    return stop - start


def _filled(number: int) -> Callable[..., Any]:
    return lambda shape, dtype=None: _full(shape, number, dtype)


def _full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    sizes = list(shape) if isinstance(shape, (list, tuple)) else [shape]
    if not any(isinstance(s, SymbolicSize) for s in sizes):
        return None
    return keras.src.ops.numpy.Full(shape=tuple(sizes), dtype=dtype or keras.config.floatx()).symbolic_call(fill_value)


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


def name_of(operation: Any, holder: Any, leaves: Collection[str]) -> tuple[str, bool]:
    """(the name of a layer or operation where it is called, whether it was made up).

    In a functional model that is its Keras name; in an opened layer, where Keras made up the name, the attribute that
    holds the layer (``blocks.0`` in a list).
    """
    automatic = re.fullmatch(rf"{to_snake_case(type(operation).__name__)}(_\d+)?", operation.name) is not None
    if not isinstance(operation, keras.layers.Layer):
        return (to_snake_case(type(operation).__name__), True) if automatic else (path_part(operation.name), False)
    if holder is not None and automatic:
        attribute = attribute_of(holder, operation)
        if attribute is not None:
            return attribute, False
    return path_part(operation.name, leaves), False
