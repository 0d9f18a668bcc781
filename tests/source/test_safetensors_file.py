"""Weights that are mapped from files are written without being held in memory all at once."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from dlbridge.source import safetensors_file


def test_a_streamed_file_is_what_the_library_reads(tmp_path):
    random = np.random.default_rng(0)
    arrays = {
        "a.weight": random.normal(size=(33, 70)).astype(np.float32).T,
        "half": random.normal(size=(3, 2)).astype(np.float16),
        "count": np.array(7, np.int64),
        "nothing": np.zeros((0, 4), np.float32),
        "is_on": np.array([True, False]),
    }
    safetensors_file.save(arrays.items, tmp_path / "w.safetensors")
    found = load_file(tmp_path / "w.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_no_array_is_held_when_the_next_one_is_read(tmp_path):
    alive = []

    class Counted(np.ndarray):
        def __del__(self):
            alive.pop()

    def arrays():
        for index in range(5):
            assert len(alive) <= 1
            alive.append(index)
            yield f"w{index}", np.ones((64, 64), np.float32).view(Counted)

    safetensors_file.save(arrays, tmp_path / "w.safetensors")
    assert len(load_file(tmp_path / "w.safetensors")) == 5


def test_a_type_that_the_format_lacks_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="complex64"):
        safetensors_file.save({"z": np.zeros(2, np.complex64)}.items, tmp_path / "w.safetensors")


@pytest.mark.pytorch
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
@pytest.mark.parametrize("is_mapped", [True, False])
def test_a_state_dict_is_saved_of_views(dtype, is_mapped, tmp_path):
    torch = pytest.importorskip("torch")
    from dlbridge.frameworks.pytorch import arrays

    array = np.arange(12).reshape(3, 4).astype(dtype)
    array.flags.writeable = not is_mapped
    tensor = arrays.shared(array)
    assert tensor.data_ptr() == array.ctypes.data
    torch.save({"w": tensor}, tmp_path / "w.pt")
    found = arrays.to_array(torch.load(tmp_path / "w.pt", weights_only=True)["w"])
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found.astype(np.float64), array.astype(np.float64))
