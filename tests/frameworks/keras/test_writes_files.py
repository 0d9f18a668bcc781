"""What ``convert(..., "keras", folder)`` writes: a model.py, and weights that ``load_weights`` of its model takes."""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge.source.weights import contiguous


class Tagger(nn.Module):
    """Weights of many kinds: two directions, running statistics, a free parameter, whole numbers, a seed in Keras."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.rnn = nn.LSTM(16, 24, batch_first=True, bidirectional=True)
        self.norm = nn.BatchNorm1d(48)
        self.drop = nn.Dropout(0.3)
        self.conv = nn.Conv1d(48, 33, 3, dilation=2)
        self.scale = nn.Parameter(torch.randn(33))
        self.register_buffer("shift", torch.randint(0, 9, (33,)))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        h, _ = self.rnn(self.embed(ids))
        return self.conv(self.drop(self.norm(h.mT))).mean(-1) * self.scale + self.shift


def _picture(dtype: torch.dtype) -> nn.Module:
    layers = [nn.Conv2d(3, 40, 3), nn.ReLU(), nn.ConvTranspose2d(40, 5, 3, stride=2), nn.Flatten(), nn.Linear(1125, 4)]
    return nn.Sequential(*layers).to(dtype)


CASES = {
    "tagger": (Tagger, {"ids": "int64[batch,time]"}),
    "float16": (lambda: _picture(torch.float16), {"input": "float16[batch,3,9,9]"}),
    "bfloat16": (lambda: _picture(torch.bfloat16), {"input": "bfloat16[batch,3,9,9]"}),
    "float64": (lambda: _picture(torch.float64), {"input": "float64[batch,3,9,9]"}),
    "a Sequential": (lambda: nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.1)), {"input": "float32[batch,5]"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_weights_in_the_file_are_those_of_the_live_model(case: str, tmp_path: Path) -> None:
    from keras.src.backend.common import global_state

    make, inputs = CASES[case]
    torch.manual_seed(0)
    written = dlbridge.convert(make().eval(), "keras", tmp_path / "out", check=False, read={"inputs": inputs})
    assert not global_state.get_global_attribute("uninitialized_variables", [])  # else Keras makes them later
    model = runpy.run_path(str(tmp_path / "out" / "model.py"))["build_model"]()
    model.load_weights(tmp_path / "out" / "model.weights.h5")
    model.dlbridge_source = written
    keras = dlbridge.frameworks.get("keras")
    expected, found = keras.weights(keras.load(written)), keras.weights(model)
    for key, array in expected.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array, err_msg=key)


@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 3), (5, 33), (3, 2, 17, 70), (2, 1, 1, 16)])
def test_a_transposed_array_is_copied_whole(shape: tuple[int, ...]) -> None:
    array = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    for view in (array, array.T, np.flip(array), array[..., ::2] if array.ndim else array):
        copy = contiguous(view)
        assert copy.flags.c_contiguous
        assert copy.shape == view.shape
        np.testing.assert_array_equal(copy, view)


class Namesakes(nn.Module):
    """Layers, a block and a parameter that are called as the inputs are."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.z = nn.Linear(4, 4), nn.Linear(4, 4)
        self.y = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 4))

    def forward(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return self.y(self.x(x) + y) + self.z(z)


def test_layers_may_be_called_as_the_inputs_are() -> None:
    module, given = Namesakes().eval(), [torch.randn(3, 4) for _ in range(3)]
    live = dlbridge.load(module, inputs=tuple(given)).to_keras()
    assert [v.name for v in live.inputs] == ["x", "y", "z"]
    found = np.asarray(live([v.numpy() for v in given], training=False))
    np.testing.assert_allclose(found, module(*given).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_layer_called_twice_in_a_row_is_one() -> None:
    inputs, layer = keras.Input((8,)), keras.layers.Dense(8)
    model, x = keras.Model(inputs, layer(layer(inputs))), np.random.default_rng(0).standard_normal((3, 8), np.float32)
    live = dlbridge.load(model).to_keras()
    assert len(live.weights) == 2
    np.testing.assert_allclose(live(x), model(x), rtol=1e-5, atol=1e-6)
