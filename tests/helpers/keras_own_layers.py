"""The layers of Keras' own tests as models: built, given random weights, quantised or adapted, and fresh inputs."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.src.testing.test_case import is_shape_tuple

from tests.helpers.keras_own_judging import TARGETS, NoModelError, Outcome, flat_arrays, judged, raw
from tests.helpers.keras_own_tests import LayerConfig

#: Batch sizes beyond that of the test.
MORE = 2

Change = Callable[[keras.layers.Layer], Any]


def lora(layer: keras.layers.Layer) -> None:
    layer.enable_lora(2, lora_alpha=3.0)
    randomise([v for v in layer.variables if "lora" in v.name], seed=5)


def quantised(mode: str, *, adapted: bool = False, block: int | None = None) -> Change:
    def change(layer: keras.layers.Layer) -> None:
        config = keras.quantizers.Int4QuantizationConfig(block_size=block) if block else None
        layer.quantize(mode, config=config) if config else layer.quantize(mode)
        if mode == "float8":
            randomise([v for v in layer.variables if v.name.endswith("_scale")], seed=6)
        if adapted:
            lora(layer)

    return change


#: What may be done to a layer once it is built, where Keras lets it.
CHANGES: dict[str, Change] = {
    "lora": lora,
    "int8": quantised("int8"),
    "int4": quantised("int4"),
    "int4 in blocks": quantised("int4", block=2),
    "float8": quantised("float8"),
    "int8 with lora": quantised("int8", adapted=True),
    "int4 with lora": quantised("int4", adapted=True),
}


def changes_of(config: LayerConfig) -> dict[str, Change]:
    """What may be done to the layer of a configuration, itself."""
    own = config.kind
    quantises = own.quantize is not keras.layers.Layer.quantize
    found = {name: change for name, change in CHANGES.items() if "lora" not in name and quantises}
    if hasattr(own, "enable_lora"):
        found |= {name: change for name, change in CHANGES.items() if name == "lora" or ("lora" in name and quantises)}
    return found


def randomise(variables: Sequence[keras.Variable], seed: int = 0) -> None:
    """Give float variables other numbers; those that must be positive stay so."""
    random = np.random.default_rng(seed)
    for variable in variables:
        if variable.dtype not in ("float32", "float16", "bfloat16", "float64"):
            continue
        positive = "variance" in variable.name or variable.name.endswith("scale")
        numbers = random.uniform(0.5, 1.5, variable.shape) if positive else random.normal(0, 0.4, variable.shape)
        variable.assign(numbers)


def judge_layer(
    config: LayerConfig, change: Change | None = None, case: str = "", targets: Sequence[str] = TARGETS
) -> list[Outcome]:
    """A configuration as a model on all targets, with several batch sizes.

    Raises:
        NoModelError: When Keras makes no model of it.
    """
    keras.utils.set_random_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, flat, batched = layer_model(config, change)
        samples = list(_samples(config, model, flat, batched))
        if not samples:
            raise NoModelError("Keras does not run it")
        found = list(judged(case or config.kind.__name__, model, flat, samples, targets))
    for outcome in found:
        outcome.test = config.test
    return found


def layer_model(config: LayerConfig, change: Change | None) -> tuple[keras.Model, list[keras.KerasTensor], bool]:
    """(a functional model of the layer, its inputs, whether its batch is free)."""
    problem = ""
    for batched in (True, False):
        try:
            layer = config.kind(**config.init)
            inputs = _inputs(config, batched)
            named = isinstance(inputs, dict)
            outputs = layer(**inputs, **config.call) if named else layer(inputs, **config.call)
            randomise(layer.variables)
            if change is not None:
                change(layer)
                outputs = layer(**inputs, **config.call) if named else layer(inputs, **config.call)
            if not all(isinstance(v, keras.KerasTensor) for v in tree.flatten(outputs)):
                raise ValueError("a result that is no tensor")
            flat = tree.flatten(inputs)
            return keras.Model(flat, tree.flatten(outputs)), flat, batched
        except Exception as error:
            problem = raw(error)
    raise NoModelError(problem)


def _inputs(config: LayerConfig, batched: bool) -> Any:
    def make(shape: tuple[int, ...], dtype: Any) -> keras.KerasTensor:
        shape = tuple(shape)
        sizes = (None, *shape[1:]) if batched and shape else shape
        return keras.Input(batch_shape=sizes, dtype=keras.backend.standardize_dtype(dtype))

    return _nest(config, make)


def _nest(config: LayerConfig, make: Callable[[tuple[int, ...], Any], Any]) -> Any:
    """What is made of each shape and dtype of the inputs, nested as the layer takes it."""
    if config.data is not None:
        return tree.map_structure(
            lambda x: make(tuple(np.shape(x)), getattr(x, "dtype", np.asarray(x).dtype)), config.data
        )

    def walk(shape: Any, dtype: Any) -> Any:
        if is_shape_tuple(shape):
            return make(tuple(shape), dtype if isinstance(dtype, str) else "float32")
        if isinstance(shape, dict):
            one = dtype if isinstance(dtype, dict) else dict.fromkeys(shape, dtype)
            return {key.removesuffix("_shape"): walk(s, one[key]) for key, s in shape.items()}
        many = dtype if isinstance(dtype, (list, tuple)) else [dtype] * len(shape)
        return type(shape)(walk(s, d) for s, d in zip(shape, many, strict=True))

    return walk(config.shape, config.dtype or "float32")


def _samples(
    config: LayerConfig, model: keras.Model, flat: list[keras.KerasTensor], batched: bool
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """(inputs, what Keras gives) of fresh inputs, of several batch sizes."""
    random = np.random.default_rng(7)
    given = [None] * len(flat) if config.data is None else [np.asarray(v) for v in tree.flatten(config.data)]
    shapes = tree.flatten(_nest(config, lambda shape, _: np.zeros(shape, np.int8)))
    mode = {"training": False} if "training" in inspect.signature(model.call).parameters else {}
    for more in (0, MORE) if batched else (0,):
        arrays = []
        for tensor, data, like in zip(flat, given, shapes, strict=True):
            shape = [d if d is not None else s + more for d, s in zip(tensor.shape, like.shape, strict=True)]
            arrays.append(_fresh(random, shape, tensor.dtype, data))
        try:
            yield arrays, flat_arrays(model(arrays if len(arrays) > 1 else arrays[0], **mode))
        except Exception:
            if more == 0:
                raise NoModelError("Keras does not run it") from None


def _fresh(random: np.random.Generator, shape: list[int], dtype: str, data: np.ndarray | None) -> np.ndarray:
    """Numbers of an input: those of the test in another order with noise, or random ones."""
    floating = dtype in ("float16", "float32", "float64", "bfloat16")
    if data is not None and data.size:
        picked = random.choice(data.ravel(), size=shape)
        return (picked + random.normal(0, 0.1, shape)).astype(dtype) if floating else picked
    if floating:
        return random.normal(size=shape).astype(dtype)
    return random.integers(0, 2 if dtype == "bool" else 3, shape).astype(dtype)
