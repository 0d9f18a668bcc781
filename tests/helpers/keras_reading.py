"""What the tests of the Keras reader share: random statistics, inputs, and the comparison with Keras itself."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from dlbridge import frameworks
from dlbridge.model import Model

#: A batch that no model of the tests was built with.
BATCH = 3


def randomise(model: keras.Model, seed: int = 0, spread: float = 0.5) -> keras.Model:
    """Give variables that start as zeros or ones other numbers, so that one taken for another shows."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if not variable.dtype.startswith("float"):
            continue
        values = keras.ops.convert_to_numpy(variable)
        if values.size and np.ptp(values) == 0:
            low, high = (1 - spread, 1 + spread) if values.flat[0] == 1 else (-spread / 2, spread / 2)
            variable.assign(random.uniform(low, high, values.shape))
    return model


def inputs_of(model: Model, seed: int = 1, sizes: dict[str, int] | None = None, high: int = 5) -> dict[str, np.ndarray]:
    """Random arrays for the inputs of a model; unknown sizes are BATCH, or as said."""
    random = np.random.default_rng(seed)
    found = {}
    for value in model.inputs:
        shape = [d if isinstance(d, int) else (sizes or {}).get(str(d), BATCH) for d in value.shape]
        dtype = value.dtype.numpy()
        if value.dtype.is_floating_point():
            found[value.name] = random.normal(size=shape).astype(dtype)
        else:
            found[value.name] = random.integers(0, high, shape).astype(dtype)
    return found


def outputs_of(model: keras.Model, arrays: list[np.ndarray], names: list[str]) -> list[np.ndarray]:
    """What Keras itself computes, flat."""
    struct: Any = arrays[0] if len(arrays) == 1 else arrays
    if isinstance(getattr(model, "_inputs_struct", None), dict):
        struct = dict(zip(names, arrays, strict=True))
    return [keras.ops.convert_to_numpy(v) for v in keras.tree.flatten(model(struct, training=False))]


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """max |y - y_ref| / max |y_ref|."""
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    assert found.dtype == wanted.dtype, (found.dtype, wanted.dtype)
    if not wanted.size:
        return 0.0
    gap = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    return float(np.max(gap) / max(float(np.max(np.abs(wanted.astype(np.float64)))), 1e-30))


def errors(
    model: keras.Model,
    to: tuple[str, ...] = ("onnx",),
    data: dict[str, np.ndarray] | None = None,
    read: Model | None = None,
    **sizes: int,
) -> dict[str, float]:
    """Read a model, write it, run it: framework -> the largest error of any output against Keras."""
    found = read or frameworks.get("keras").read(model)
    data = data or inputs_of(found, sizes=sizes)
    wanted = outputs_of(model, list(data.values()), list(data))
    if found.original is not None:  # what verification compares with is Keras itself
        assert all(error(y, w) <= 1e-6 for y, w in zip(found.original(data).values(), wanted, strict=True))
    result = {}
    for name in to:
        framework = frameworks.get(name)
        live = framework.load(found.write(name))
        got = framework.run(live, data)
        result[name] = max(error(got[v.name], w) for v, w in zip(found.outputs, wanted, strict=True))
    return result
