"""Written Keras models on Keras' other backends: eleven architectures give on JAX and PyTorch what they give on TensorFlow.

Each backend runs in a process of its own; one that is not installed is left out.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


#: Runs every written model in a folder on the numbers beside it.
_PROGRAM = """
import importlib.util, sys
from pathlib import Path
import numpy as np

for folder in sorted(Path(sys.argv[1]).iterdir()):
    spec = importlib.util.spec_from_file_location(folder.name, folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.build_model()
    model.load_weights(folder / "model.weights.h5")
    inputs = np.load(folder / "inputs.npz")
    arrays = [inputs[k] for k in inputs.files]
    out = model(arrays if len(arrays) > 1 else arrays[0], training=False)
    outputs = out if isinstance(out, (list, tuple)) else list(out.values()) if isinstance(out, dict) else [out]
    from keras import ops
    np.savez(folder / f"{sys.argv[2]}.npz", *[ops.convert_to_numpy(o) for o in outputs])
"""


def _architectures() -> dict:
    """Name -> (module, inputs by name)."""
    import torch

    from tests.helpers import architectures as a

    rng = np.random.default_rng(0)

    def floats(*shape):
        return rng.normal(size=shape).astype(np.float32)

    def tokens(size=6):
        return rng.integers(0, 20, (2, size))

    torch.manual_seed(0)
    mask = np.array([[1] * 6, [1] * 4 + [0] * 2], np.float32)
    return {
        "resnet18": (a.ResNet18(), {"x": floats(2, 3, 32, 32)}),
        "bert": (a.Bert(), {"tokens": tokens(), "mask": mask}),
        "lstm_tagger": (a.LSTMTagger(), {"tokens": tokens()}),
        "gru_regressor": (a.GRURegressor(), {"x": floats(2, 4, 5)}),
        "squeeze_excite": (a.SqueezeExcite(), {"x": floats(2, 6, 8, 8)}),
        "unet": (a.UNet(), {"x": floats(2, 3, 8, 8)}),
        "fpn": (a.FPN(mode="bilinear", align_corners=True), {"image": floats(2, 3, 27, 18)}),
        "convnext": (a.ConvNeXtBlock(), {"x": floats(2, 6, 8, 8)}),
        "wavenet": (a.WaveNet(), {"x": floats(2, 4, 12)}),
        "recommender": (a.Recommender(), {"history": tokens(), "candidate": tokens(1)[:, 0]}),
        "attention": (a.SelfAttention(8, 2), {"x": floats(2, 6, 8), "mask": floats(2, 1, 1, 6)}),
    }


#: The sizes that are not known when a model is written, where it is not the batch alone.
_DYNAMIC = {"fpn": {"image": "float32[batch,3,height,width]"}}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a folder for each model: source, weights, inputs, and what TensorFlow makes of them."""
    import dlbridge

    base = tmp_path_factory.mktemp("written")
    modules = _architectures()
    from tests.helpers.architectures import randomized

    for name, (module, inputs) in modules.items():
        given = {k: f"{v.dtype}[{','.join(map(str, ['batch', *v.shape[1:]]))}]" for k, v in inputs.items()}
        given = _DYNAMIC.get(name, given)
        dlbridge.load(randomized(module), inputs=given).write("keras").save(base / name)
        np.savez(base / name / "inputs.npz", **inputs)
    _run(base, "tensorflow")
    return base


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_written_models_compute_the_same_on_every_backend(written, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    _run(written, backend)
    for folder in sorted(written.iterdir()):
        expected, got = np.load(folder / "tensorflow.npz"), np.load(folder / f"{backend}.npz")
        assert expected.files == got.files
        for key in expected.files:
            error = np.abs(expected[key] - got[key]).max() / np.abs(expected[key]).max()
            assert error < 1e-5, f"{folder.name}: {error:.1e}"


def _run(folder: Path, backend: str) -> None:
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", _PROGRAM, str(folder), backend]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
