"""Models that are written as one file: ``.keras``, ``.pt2``."""

import keras
import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge.errors import DlbridgeError, WrittenModelError
from dlbridge.frameworks import single_file


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, image, scale):
        x = torch.relu(self.conv(image)).mean((2, 3))
        return self.head(x) * scale, x


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return dlbridge.load(Net().eval(), inputs={"image": "float32[batch,3,h,w]", "scale": "float32[1]"})


INPUTS = {"image": np.ones((3, 3, 9, 7), "float32"), "scale": np.full(1, 2, "float32")}


@pytest.mark.parametrize(("to", "name"), [("keras", "m.keras"), ("pytorch", "m.pt2")])
def test_a_file_has_the_model_and_its_free_sizes(model, tmp_path, to, name):
    dlbridge.convert(model, to, tmp_path / name)
    again = dlbridge.load(tmp_path / name)
    assert [len(v.shape) for v in again.inputs] == [4, 1]
    found = again.original(dict(zip([v.name for v in again.inputs], INPUTS.values(), strict=True)))
    for wanted, value in zip(model.original(INPUTS).values(), found.values(), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(DlbridgeError, match="already exists"):
        dlbridge.convert(model, to, tmp_path / name)


def test_frameworks_read_their_files_without_dlbridge(model, tmp_path):
    dlbridge.convert(model, "keras", tmp_path / "m.keras", check=False)
    dlbridge.convert(model, "pytorch", tmp_path / "m.pt2", check=False)
    image, scale = INPUTS.values()
    ours = torch.export.load(tmp_path / "m.pt2").module()(torch.from_numpy(image), torch.from_numpy(scale))
    theirs = keras.saving.load_model(tmp_path / "m.keras")([image, scale])
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.detach().numpy(), keras.ops.convert_to_numpy(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("to", "name", "why"),
    [
        ("pytorch", "m.pt", "as a folder or a .pt2 file, not as '.pt'"),
        ("keras", "m.h5", "as a folder or a .keras file, not as '.h5'"),
        ("onnx", "m.pt2", "as a folder or a .onnx file, not as '.pt2'"),
        ("nnx", "m.keras", "as a folder, not as '.keras'"),
    ],
)
def test_a_file_of_another_kind_is_refused_before_any_work(tmp_path, to, name, why):
    with pytest.raises(DlbridgeError, match=why):
        dlbridge.convert("no such model", to, tmp_path / name)


@pytest.mark.parametrize(("to", "name"), [("keras", "m.keras"), ("pytorch", "m.pt2")])
def test_a_file_that_computes_something_else_is_not_left(model, tmp_path, monkeypatch, to, name):
    def differ(wanted, found, where):
        raise WrittenModelError("it differs", where=where)

    monkeypatch.setattr(single_file, "compare", differ)
    with pytest.raises(WrittenModelError):
        dlbridge.convert(model, to, tmp_path / name, check=False)
    assert not list(tmp_path.iterdir())


def test_numbers_that_differ_and_outputs_that_are_missing_are_seen():
    a = {"y": np.ones(3, "float32")}
    single_file.compare(a, {"y": a["y"] * np.float32(1 + 1e-7)}, "m")
    for other in ({}, {"y": np.ones(4, "float32")}, {"y": np.ones(3)}, {"y": a["y"] * np.float32(1.001)}):
        with pytest.raises(WrittenModelError):
            single_file.compare(a, other, "m")
