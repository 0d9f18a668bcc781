"""``.keras`` and ``.h5`` files: read, and refused where they are hostile; nothing is executed or written."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import dlbridge
from dlbridge import factories
from dlbridge.errors import DlbridgeError, FileError
from tests.helpers.keras_reading import errors, randomise


def model() -> keras.Model:
    x = keras.Input((6, 6, 2), name="image")
    y = layers.BatchNormalization(name="norm")(layers.Conv2D(3, 3, name="conv")(x))
    return randomise(keras.Model(x, layers.Dense(2, name="head")(layers.Flatten(name="flat")(y)), name="small"))


def rewritten(path: Path, change) -> Path:
    """The archive with its members changed: ``change`` gets and returns {name: bytes}."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in change(members).items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "small.keras"
    model().save(path)
    return path


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_is_read(tmp_path, suffix):
    live, path = model(), tmp_path / f"small{suffix}"
    live.save(path)
    found = dlbridge.load(path)
    assert found.name == "small"
    assert errors(live, read=found)["onnx"] <= 1e-6


def test_a_subclassed_model_in_a_file_says_its_inputs(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Network(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first, self.second = layers.Dense(4, activation="relu"), layers.Dense(2)

        def call(self, x):
            return self.second(self.first(x))

    live = Network(name="net")
    live(np.zeros((1, 3), np.float32))
    live.save(tmp_path / "net.keras")
    found = dlbridge.load(tmp_path / "net.keras")
    assert sorted(found.graph.initializers) == ["first.bias", "first.weight", "second.bias", "second.weight"]
    assert errors(live, read=found)["onnx"] <= 1e-6


def test_what_is_no_archive_or_cut_short(tmp_path, saved):
    whole = saved.read_bytes()
    for number, data in enumerate([b"", b"not a zip", whole[: len(whole) // 2], b"\x80\x04\x95pickle", whole[100:]]):
        broken = tmp_path / f"broken{number}.keras"
        broken.write_bytes(data)
        with pytest.raises(FileError):
            dlbridge.load(broken)
    for number, data in enumerate([b"", b"not hdf5", b"\x89HDF\r\n\x1a\n" + bytes(50)]):
        broken = tmp_path / f"broken{number}.h5"
        broken.write_bytes(data)
        with pytest.raises(FileError):
            dlbridge.load(broken)
    with pytest.raises(FileError, match="no such file"):
        dlbridge.load(tmp_path / "absent.keras")


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil", "a/../../evil", "..\\evil", "C:/evil"])
def test_a_path_outside_of_the_archive(saved, name):
    rewritten(saved, lambda members: {**members, name: b"evil"})
    with pytest.raises(FileError, match="outside"):
        dlbridge.load(saved)
    assert not (saved.parent.parent / "evil.txt").exists()


def test_a_link_in_the_archive(saved):
    with zipfile.ZipFile(saved, "a") as archive:
        link = zipfile.ZipInfo("assets")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(FileError, match="link"):
        dlbridge.load(saved)


def test_a_zip_bomb(saved):
    with zipfile.ZipFile(saved, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("assets/bomb", "w") as bomb:
        for _ in range(100):
            bomb.write(bytes(1 << 20))
    with pytest.raises(FileError, match="grow"):
        dlbridge.load(saved)


def test_an_archive_that_lies_about_its_sizes(saved):
    data = bytearray(saved.read_bytes())
    place = data.rfind(b"PK\x01\x02")
    data[place + 24 : place + 28] = struct.pack("<I", 2**31)
    saved.write_bytes(bytes(data))
    with pytest.raises(FileError):
        dlbridge.load(saved)


def test_a_flipped_byte(saved):
    data = bytearray(saved.read_bytes())
    data[len(data) // 3] ^= 0xFF
    saved.write_bytes(bytes(data))
    with pytest.raises(FileError):
        dlbridge.load(saved)


def test_config_that_is_missing_or_says_no_model(saved, tmp_path):
    original = saved.read_bytes()
    for change in (
        lambda m: {k: v for k, v in m.items() if k != "config.json"},
        lambda m: {**m, "config.json": b"{"},
        lambda m: {**m, "config.json": b"[]"},
        lambda m: {**m, "config.json": b'{"class_name": 5}'},
    ):
        saved.write_bytes(original)
        with pytest.raises(FileError):
            dlbridge.load(rewritten(saved, change))


def test_code_in_a_file_is_not_run(tmp_path):
    """A configuration that names a function of the standard library as a class, and a Lambda with byte code."""
    path = tmp_path / "evil.keras"
    model().save(path)
    mark = tmp_path / "executed"

    def evil(members):
        config = json.loads(members["config.json"])
        config["config"]["layers"].append(
            {"module": "os", "class_name": "system", "config": {"command": f"touch {mark}"}, "registered_name": None}
        )
        return {**members, "config.json": json.dumps(config).encode()}

    with pytest.raises(FileError):
        dlbridge.load(rewritten(path, evil))
    assert not mark.exists()


def test_a_lambda_is_refused_unless_trusted(tmp_path):
    x = keras.Input((3,), name="x")
    live = keras.Model(x, layers.Lambda(lambda v: v * 2.0, name="twice")(x))
    path = tmp_path / "lambda.keras"
    live.save(path)
    with pytest.raises(DlbridgeError, match="trust-code"):
        dlbridge.load(path)
    found = dlbridge.load(path, trust_code=True)
    assert errors(live, read=found)["onnx"] == 0


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("given", ["as a file", "as objects"])
def test_custom_classes_are_those_of_a_module_that_is_named(tmp_path, suffix, given):
    code = tmp_path / "squared_layers.py"
    code.write_text(
        "from keras import layers, ops\n\n\nclass Squared(layers.Layer):\n"
        "    def call(self, x):\n        return ops.square(x)\n"
    )
    kind = factories.imported(str(code)).Squared
    x = keras.Input((3,), name="x")
    live = keras.Model(x, layers.Dense(2)(kind(name="squared")(x)))
    path = tmp_path / f"custom{suffix}"
    live.save(path)
    with pytest.raises(FileError, match="'Squared', which is none of Keras'"):
        dlbridge.load(path)
    found = dlbridge.load(path, custom_objects=[str(code)] if given == "as a file" else {"Squared": kind})
    assert errors(live, read=found)["onnx"] <= 1e-6


def test_an_unknown_class_names_what_to_do(tmp_path):
    class Unregistered(layers.Layer):
        def call(self, x):
            return x

    x = keras.Input((3,), name="x")
    path = tmp_path / "custom.keras"
    keras.Model(x, Unregistered(name="mine")(x)).save(path)
    with pytest.raises(FileError, match=r"(?s)'Unregistered'.*--custom-objects"):
        dlbridge.load(path)
