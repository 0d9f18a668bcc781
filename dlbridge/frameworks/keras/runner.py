"""Makes written Keras source live, and runs it on numpy arrays."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.errors import UnsupportedOpError, WeightsError
from dlbridge.frameworks.keras import compat, regularizing
from dlbridge.frameworks.keras.exact import Exact
from dlbridge.frameworks.keras.logs import quiet
from dlbridge.frameworks.keras.variables import CopiesAhead
from dlbridge.ops import traits
from dlbridge.source.program import Source
from dlbridge.source.training.regularized import of_weights
from dlbridge.source.weights import contiguous

#: From how many bytes of inputs on a model is run as ``predict`` does.
_LARGE_INPUTS = 1 << 20


def load(source: Source) -> keras.Model:
    """The written model with its weights.

    Its variables are made when the stateless scope ends, of these weights: no random numbers are drawn before.
    """
    with policy(source), CopiesAhead(source.array, source.weights) as copies, keras.StatelessScope():
        model = _unfilled(source, copies.tensor)
    model.dlbridge_source = source
    return model


def save_weights(source: Source, folder: Path) -> None:
    """Write ``model.weights.h5``, which ``load_weights`` of the written model reads.

    In the scope, a variable that is not made yet has the value of its initializer: Keras writes the arrays themselves.
    """
    scope = keras.StatelessScope(initialize_variables=False)
    with policy(source), compat.own_attributes_skipped(), scope, compat.variables_forgotten():
        _unfilled(source, functools.partial(_array, source)).save_weights(folder / "model.weights.h5")


def load_saved(source: Source, weights: Path) -> keras.Model:
    """The model of a file, with the weights beside it.

    Raises:
        WeightsError: When the weights do not fit the model.
    """
    with policy(source):
        model = _built(source)
        try:
            model.load_weights(weights)
        except (ValueError, KeyError, OSError) as error:
            raise WeightsError(str(error), where=str(weights)) from error
    model.dlbridge_source = source
    return model


def _built(source: Source) -> keras.Model:
    """The written model, with its variables.

    Raises:
        UnsupportedOpError: When it is deeper than Keras can go through it: a Python call for each operation on the way.
    """
    try:
        model = source.execute()[source.entry]()
        if "build" in type(model).__dict__ and not isinstance(model, keras.Sequential):
            model.build(None)  # a subclass, which cannot be traced
    except RecursionError:
        raise UnsupportedOpError(
            "so many operations follow one another that Keras reaches Python's limit of calls within calls",
            where=source.model.name,
            hint=f"raise the limit before: sys.setrecursionlimit({10 * sys.getrecursionlimit():_})",
        ) from None
    return model


def _unfilled(source: Source, weight: Callable[[str, str], Any]) -> keras.Model:
    """The written model, in a stateless scope: the initializers of its variables give these weights."""
    model = _built(source)
    variables = _variables(model)
    for key in source.weights:
        if key not in variables:
            raise WeightsError("the written model has no such variable", where=key, hint="please report this")
        variables[key]._initializer = functools.partial(_numbers, weight, key)
    regularizing.attach(variables, of_weights(source.model.graph, source.weights))
    return model


def _numbers(weight: Callable[[str, str], Any], key: str, shape: tuple[int, ...], dtype: str) -> Any:
    """A weight as the initializer of its variable."""
    made = weight(key, dtype)
    if tuple(made.shape) != tuple(shape):
        raise WeightsError(f"the variable has the shape {tuple(shape)}, the weight {tuple(made.shape)}", where=key)
    return made


def _array(source: Source, key: str, dtype: str) -> np.ndarray:
    return np.asarray(contiguous(source.array(key)), dtype)


@contextmanager
def policy(source: Source) -> Iterator[None]:
    """Make the model's float type the one that layers have that are made in this thread; else Keras cuts the inputs of
    a model in float64 to float32."""
    with compat.attributes_kept("dtype_policy"):
        if _is_double(source):
            keras.config.set_dtype_policy("float64")
        yield


@contextmanager
def float_type(source: Source) -> Iterator[None]:
    """Make the model's float type the one that ``fit`` takes arrays and losses in; else it cuts float64 to float32.

    Keras has one such type for all threads: this is for training in float64 alone.
    """
    before = keras.config.floatx()
    try:
        if _is_double(source):
            keras.config.set_floatx("float64")
        yield
    finally:
        if _is_double(source):
            keras.config.set_floatx(before)


def _is_double(source: Source) -> bool:
    """Whether float64 comes in or out, and is not computed with as float32."""
    graph = source.model.graph
    weights = [v for v in graph.initializers.values() if traits.kind(v) != "constant"]
    single = any(v.dtype == ir.DataType.FLOAT for v in weights)
    return not single and any(v.dtype == ir.DataType.DOUBLE for v in (*graph.inputs, *graph.outputs))


def _variables(model: keras.Model) -> dict[str, Any]:
    """Weight key -> variable: by path; in a Sequential model, by the place of the layer (``#1/kernel``)."""
    if isinstance(model, keras.Sequential):
        return {
            f"#{index}/{f'/{variable.path}'.partition(f'/{layer.name}/')[2]}": variable
            for index, layer in enumerate(model.layers)
            for variable in layer.variables
        }
    found = {variable.path: variable for variable in model.variables}
    # Keras counts the names of cells that it makes inside a layer (lstm_cell, lstm_cell_1, ...) over the whole process.
    for path, variable in list(found.items()):
        found.setdefault(re.sub(r"_\d+(?=/)", "", path), variable)
    for path, variable in _by_holder(model.layers, ""):
        found.setdefault(path, variable)
    return found


def _by_holder(layers: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """(path, variable) by the layers that hold each other: a weight that a layer makes in its ``__init__`` has no
    path of the layers around it in Keras."""
    for layer in layers:
        path = f"{prefix}{layer.name}/"
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            yield path + variable.name, variable
        yield from _by_holder(layer._layers, path)


def run(live: keras.Model, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run in inference mode: in a call or, for large inputs, compiled, as ``predict`` does.

    A call of a functional model keeps what each of its layers returns until its end: of images, many times the model.

    Raises:
        SignatureError: When an input is missing.
    """
    source: Source = live.dlbridge_source
    source.require_inputs(inputs)
    tensors = {n: keras.ops.convert_to_tensor(inputs[n]) for n in source.inputs}
    is_large = sum(inputs[n].nbytes for n in source.inputs) >= _LARGE_INPUTS
    call = live.predict_on_batch if is_large else functools.partial(live, training=False)
    with quiet("tensorflow"):  # which warns where many sizes are tried
        values = _call(live, tensors, call)
    return {n: keras.ops.convert_to_numpy(v) for n, v in zip(source.outputs, values, strict=True)}


def exact(live: keras.Model) -> Exact:
    """Runs the live model in float64; it stays as it is."""
    call = functools.partial(live, training=False)
    return Exact(lambda tensors: _call(live, tensors, call), live.dlbridge_source.outputs)


def argument(inputs: list[Any]) -> Any:
    """What a model with these inputs is called with: the one, a list of several, None where there is none."""
    if len(inputs) > 1:
        return inputs
    return inputs[0] if inputs else None


def _call(live: keras.Model, tensors: Mapping[str, Any], call: Callable[[Any], Any]) -> list[Any]:
    source: Source = live.dlbridge_source
    given = [tensors[n] for n in source.inputs]
    with policy(source):
        return source.in_order(call(argument(given)))


def weights(live: keras.Model) -> dict[str, np.ndarray]:
    """Framework key -> array of a live model's weights, as they are now."""
    return dict(LiveWeights(live))


class LiveWeights(Mapping[str, np.ndarray]):
    """Framework key -> array of a live model's weights, each copied when it is looked up."""

    def __init__(self, live: keras.Model) -> None:
        self._keys, self._variables = live.dlbridge_source.weights, _variables(live)

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._keys:
            raise KeyError(key)
        array: np.ndarray = keras.ops.convert_to_numpy(self._variables[key])
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def trainable_variables(live: keras.Model) -> dict[str, Any]:
    """Framework key -> variable, of those weights that train."""
    variables = _variables(live)
    return {key: variables[key] for key in live.dlbridge_source.weights if variables[key].trainable}
