"""Every architecture of ``keras.applications``: Keras -> PyTorch, ONNX, Keras, on fresh inputs at another batch size.

``python -m tests.sweeps.test_keras_applications [name ...]`` prints the table. The bound is 1e-5, except where the
source's own float32 error against float64 is above 1e-6: four times that.
"""

from __future__ import annotations

import gc
import sys
import time

import numpy as np
import pytest


keras = pytest.importorskip("keras")

from tests.helpers.keras_reading import error, inputs_of, outputs_of, randomise

import dlbridge
from dlbridge import frameworks
from dlbridge.model import Model
from dlbridge.verification.compare import relative_error

TARGETS = ("pytorch", "onnx", "keras")
#: Smallest image that an architecture takes, where 64 is too small.
SIZES = {"InceptionV3": 96, "InceptionResNetV2": 96, "Xception": 80, "NASNetLarge": 96}
#: With random statistics a rounding error decides the result: Keras' own float32 is wrong by 0.1 % to 100 %.
CHAOTIC = ("EfficientNetV2B3", "EfficientNetV2M", "EfficientNetV2L")
ALL = sorted(n for n in dir(keras.applications) if n[0].isupper() and callable(getattr(keras.applications, n)))


def build(name: str) -> keras.Model:
    size = SIZES.get(name, 64)
    options = {"weights": None, "input_shape": (size, size, 3), "classes": 10}
    model = getattr(keras.applications, name)(**options, classifier_activation=None)
    randomise(model, spread=0.2)
    return calibrate(model, (size, size, 3)) if name in CHAOTIC else model


def calibrate(model: keras.Model, shape: tuple[int, ...]) -> keras.Model:
    """Take the statistics of a batch."""
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(np.random.default_rng(3).normal(size=(8, *shape)).astype(np.float32), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model


def own_error(read: Model, data: dict[str, np.ndarray], wanted: list[np.ndarray]) -> float:
    """The error of Keras' own float32 against float64 (the PyTorch that is written, made float64)."""
    import torch

    live = read.to_pytorch().double()
    with torch.no_grad():
        exact = live(*(torch.from_numpy(a).double() for a in data.values()))
    exact = exact if isinstance(exact, (tuple, list)) else [exact]
    return max(relative_error(w, e.numpy()) for w, e in zip(wanted, exact, strict=True))


def measure(name: str, targets: tuple[str, ...] = TARGETS) -> tuple[bool, str]:
    """(whether every target agrees, a line of the table)."""
    keras.utils.set_random_seed(0)
    model = build(name)
    start = time.time()
    read = dlbridge.load(model)
    cells = [f"{name:20} read {time.time() - start:.2f}s"]
    data = inputs_of(read)
    wanted = outputs_of(model, list(data.values()), list(data))
    passed, bound = True, 1e-5
    for target in targets:
        start = time.time()
        framework = frameworks.get(target)
        live = framework.load(dlbridge.convert(read, target))
        seconds = time.time() - start
        got = framework.run(live, data)
        found = max(error(got[v.name], w) for v, w in zip(read.outputs, wanted, strict=True))
        if found > bound:
            bound = max(bound, 4 * own_error(read, data, wanted))
            cells.append(f"bound {bound:.1e}")
        passed &= found <= bound
        cells.append(f"{target} {found:.1e} ({seconds:.1f}s)")
        del live, got
        gc.collect()
    keras.backend.clear_session()
    return passed, "  ".join([*cells, "ok" if passed else "FAIL"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_architecture(name: str) -> None:
    passed, line = measure(name)
    print(line)
    assert passed, line


if __name__ == "__main__":
    for each in sys.argv[1:] or ALL:
        try:
            print(measure(each)[1], flush=True)
        except Exception as trouble:
            print(f"{each:20} {type(trouble).__name__}: {str(trouble)[:500]}", flush=True)
