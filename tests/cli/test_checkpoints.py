"""Weights as people have them, for a model that a function or class makes."""

import json
import pickle
import warnings

import keras
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import dlbridge
from dlbridge import factories, frameworks
from dlbridge.errors import DlbridgeError, DlbridgeWarning, FileError, WeightsError


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.norm = torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)
        self.two = torch.nn.Linear(4, 4, bias=False)
        self.three = torch.nn.Linear(4, 4, bias=False)
        self.three.weight = self.two.weight

    def forward(self, x):
        return self.three(self.two(self.norm(self.one(x))))


@pytest.fixture
def state():
    torch.manual_seed(1)
    return Net().state_dict()


def _fill(path, *, strict=True, kind=Net):
    """The weights of a new module, after those of a file were put into it; and what was warned of."""
    made = factories.Made(kind(), "net", None, frameworks.get("pytorch"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        factories.fill(made, path, strict=strict)
    return made.model.state_dict(), [str(w.message) for w in caught if issubclass(w.category, DlbridgeWarning)]


def _assert_same(found, state):
    for name, tensor in state.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def _sharded(state, folder, save, suffix):
    halves = {f"m-{i}-of-2{suffix}": dict(list(state.items())[i::2]) for i in range(2)}
    for name, part in halves.items():
        save({k: v.clone() for k, v in part.items()}, folder / name)
    index = {"weight_map": {k: name for name, part in halves.items() for k in part}}
    path = folder / f"m{suffix}.index.json"
    path.write_text(json.dumps(index))
    return path


SAVED = {
    "state.pt": lambda s, p: torch.save(s, p),
    "older.pth": lambda s, p: torch.save(s, p, _use_new_zipfile_serialization=False),
    "lightning.ckpt": lambda s, p: torch.save({"epoch": 3, "state_dict": s, "optimizer_states": [{"m": s}]}, p),
    "trainer.pt": lambda s, p: torch.save({"model": s, "optimizer": {"state": {}}, "loss": torch.ones(1)}, p),
    "nested.pt": lambda s, p: torch.save({"model": {"state_dict": s}}, p),
    "one.safetensors": lambda s, p: safetensors.torch.save_file({k: v.clone() for k, v in s.items()}, p),
    "arrays.npz": lambda s, p: np.savez(p, **{k: v.numpy() for k, v in s.items()}),
}


@pytest.mark.parametrize("name", SAVED)
def test_weights_of_each_kind_of_file(state, tmp_path, name):
    SAVED[name](state, tmp_path / name)
    found, warned = _fill(tmp_path / name)
    _assert_same(found, state)
    assert not warned


@pytest.mark.parametrize(("save", "suffix"), [(torch.save, ".bin"), (safetensors.torch.save_file, ".safetensors")])
def test_weights_in_several_files(state, tmp_path, save, suffix):
    found, _ = _fill(_sharded(state, tmp_path, save, suffix))
    _assert_same(found, state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."])
def test_prefixes_of_wrappers_are_removed_with_a_word(state, tmp_path, prefix):
    torch.save({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "w.pt")
    found, warned = _fill(tmp_path / "w.pt")
    _assert_same(found, state)
    assert len(warned) == 1 and f"'{prefix}'" in warned[0]


def test_a_prefix_that_the_model_has_stays(tmp_path):
    class Holder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = torch.nn.Linear(3, 2)

    torch.save({"model.weight": torch.ones(2, 3), "model.bias": torch.ones(2)}, tmp_path / "w.pt")
    found, warned = _fill(tmp_path / "w.pt", kind=Holder)
    assert found["model.weight"].eq(1).all() and not warned


def test_a_file_need_not_have_a_shared_weight_twice_nor_how_many_batches_were_seen(state, tmp_path):
    less = {name: tensor for name, tensor in state.items() if name not in ("three.weight", "norm.num_batches_tracked")}
    safetensors.torch.save_file(less, tmp_path / "w.safetensors")
    found, warned = _fill(tmp_path / "w.safetensors")
    _assert_same(found, state)
    assert not warned


def test_what_is_missing_and_what_is_unexpected_is_listed(state, tmp_path):
    other = {**state, "head.weight": torch.ones(1)}
    del other["one.bias"]
    torch.save(other, tmp_path / "w.pt")
    with pytest.raises(
        WeightsError, match=r"missing in the file \(1\): one.bias\n.*not in the model \(1\): head"
    ) as caught:
        _fill(tmp_path / "w.pt")
    assert "--no-strict" in caught.value.hint
    found, warned = _fill(tmp_path / "w.pt", strict=False)
    torch.testing.assert_close(found["one.weight"], state["one.weight"])
    assert "one.bias" in warned[0] and "head.weight" in warned[0]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"one.weight": torch.ones(4, 5)}, r"one.weight is \[4, 5\] in the file, \[4, 3\] in the model"),
        ({"one.weight": torch.ones(4, 3, dtype=torch.int8)}, "one.weight is int8 in the file, float32 in the model"),
    ],
)
def test_weights_of_another_shape_or_kind_are_refused(state, tmp_path, changed, why, strict):
    torch.save({**state, **changed}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=why):
        _fill(tmp_path / "w.pt", strict=strict)


def test_weights_of_another_model_are_refused_even_where_names_may_differ(tmp_path):
    torch.save({"conv.weight": torch.ones(2)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="do not fit"):
        _fill(tmp_path / "w.pt", strict=False)


def test_weights_that_are_rounded_are_told(state, tmp_path):
    torch.save({name: t.double() if t.is_floating_point() else t for name, t in state.items()}, tmp_path / "w.pt")
    _, warned = _fill(tmp_path / "w.pt")
    assert "float64 are rounded to float32" in warned[0]
    torch.save({name: t.bfloat16() if t.is_floating_point() else t for name, t in state.items()}, tmp_path / "w.pt")
    assert not _fill(tmp_path / "w.pt")[1]


class _Runs:
    def __reduce__(self):
        return (exec, ("raise SystemExit('this ran')",))


def _script(path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(3, 2), torch.ones(1, 3)), path)


HOSTILE = {
    "whole.pt": (lambda p: torch.save(torch.nn.Linear(3, 2), p), "more than tensors"),
    "code.pt": (lambda p: torch.save({"state_dict": _Runs()}, p), "more than tensors"),
    "code.bin": (lambda p: p.write_bytes(pickle.dumps(_Runs())), "more than tensors"),
    "code.npz": (lambda p: np.savez(p, a=np.array([_Runs()], dtype=object)), "pickled objects"),
    "script.pt": (_script, "TorchScript"),
    "broken.pt": (lambda p: p.write_bytes(b"PK\x03\x04 nothing"), "torch cannot load it|more than tensors"),
    "broken.safetensors": (lambda p: p.write_bytes(b"nothing at all"), "truncated"),
    "list.pt": (lambda p: torch.save([torch.ones(1)], p), "a list, not weights"),
    "empty.pt": (lambda p: torch.save({"epoch": 3}, p), "no weights under a usual key"),
    "x.weights.h5": (lambda p: p.write_bytes(b""), "no file of weights that PyTorch reads"),
    "elsewhere.index.json": (lambda p: p.write_text('{"weight_map": {"a": "../state.pt"}}'), "not beside it"),
    "absent.index.json": (lambda p: p.write_text('{"weight_map": {"a": "gone.pt"}}'), "which is not there"),
    "no.index.json": (lambda p: p.write_text("[1]"), "no index"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_holds_no_weights_is_refused_and_nothing_in_it_runs(tmp_path, name):
    write, why = HOSTILE[name]
    write(tmp_path / name)
    with pytest.raises(DlbridgeError, match=why):
        _fill(tmp_path / name)


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        _fill(tmp_path / "none.pt")


# --- Keras ------------------------------------------------------------------------------------------------------------


def _keras(units=4, more=False):
    keras.utils.clear_session()
    x = inputs = keras.Input((3,))
    x = keras.layers.Dense(units, name="one")(x)
    if more:
        x = keras.layers.Dense(units, name="two")(x)
    return keras.Model(inputs, x)


KERAS_FILES = {
    "m.weights.h5": lambda m, p: m.save_weights(p),
    "m.npz": lambda m, p: np.savez(p, **{v.path: v.numpy() for v in m.variables}),
}


@pytest.mark.parametrize("name", KERAS_FILES)
def test_weights_of_keras(tmp_path, name):
    model = _keras()
    KERAS_FILES[name](model, tmp_path / name)
    fresh = _keras()
    frameworks.get("keras").fill(fresh, tmp_path / name)
    for before, after in zip(model.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", KERAS_FILES)
@pytest.mark.parametrize(
    ("saved", "made", "why"),
    [
        ({"units": 5}, {}, r"is \[3, 5\] in the file, \[3, 4\]"),
        ({"more": True}, {}, "not in the model"),
        ({}, {"more": True}, "missing in the file"),
    ],
)
def test_weights_of_another_keras_model_are_refused(tmp_path, name, saved, made, why):
    KERAS_FILES[name](_keras(**saved), tmp_path / name)
    with pytest.raises(WeightsError, match=why):
        frameworks.get("keras").fill(_keras(**made), tmp_path / name)


def test_weights_of_torch_are_no_weights_of_keras(state, tmp_path):
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(FileError, match="no file of weights that Keras reads"):
        frameworks.get("keras").fill(_keras(), tmp_path / "w.pt")


# --- through the door -------------------------------------------------------------------------------------------------


def test_a_model_of_a_function_is_read_with_weights(tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text("import torch\ndef make(): return torch.nn.Linear(3, 2), torch.ones(1, 3)\n")
    weights = {"weight": torch.full((2, 3), 2.0), "bias": torch.zeros(2)}
    torch.save({"state_dict": weights}, tmp_path / "w.ckpt")
    model = dlbridge.load(f"{tmp_path}/own_net.py:make", weights=tmp_path / "w.ckpt")
    np.testing.assert_array_equal(model.weights["weight"], weights["weight"].numpy())
    np.testing.assert_array_equal(model.original({"input": np.ones((1, 3), "float32")})["output"], [[6, 6]])


def test_weights_by_the_names_of_a_framework_are_for_what_a_name_makes(state, tmp_path):
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(DlbridgeError, match=r"weights for a model that is read are \.safetensors or \.npz"):
        dlbridge.load(Net(), weights=tmp_path / "w.pt", inputs={"x": "float32[batch,3]"})


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_model_that_is_read_takes_weights_by_its_own_names(suffix, tmp_path):
    """So do the best weights of a training: they lie beside the model, which has the last ones."""
    model = dlbridge.load(Net(), inputs={"x": "float32[batch,3]"})
    model.save(tmp_path / "run")
    best = {name: np.asarray(weight + 1) for name, weight in model.weights.items()}
    path = tmp_path / f"best{suffix}"
    if suffix == ".npz":
        np.savez(path, **best)
    else:
        safetensors.numpy.save_file(best, path)
    read = dlbridge.load(tmp_path / "run", weights=path)
    assert all((read.weights[name] == weight).all() for name, weight in best.items())
    (name, *_) = best
    np.savez(tmp_path / "part.npz", **{name: best[name]})
    with pytest.raises(WeightsError, match=r"missing in the file \(\d+\)"):
        dlbridge.load(tmp_path / "run", weights=tmp_path / "part.npz")
    with pytest.warns(DlbridgeWarning, match="missing in the file"):
        part = dlbridge.load(tmp_path / "run", weights=tmp_path / "part.npz", strict=False)
    assert (part.weights[name] == best[name]).all()
