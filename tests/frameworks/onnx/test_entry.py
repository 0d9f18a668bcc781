"""frameworks.onnx.entry: repository entries as Triton reads them, loaded by the runtime."""

import json

import numpy as np
import onnx_ir as ir
import pytest
from google.protobuf import text_format

from dlbridge import frameworks, runtime
from dlbridge.errors import FileError
from dlbridge.frameworks.onnx.entry import add_version, config, save_entry
from dlbridge.model import Model
from dlbridge.repository.messages import ModelConfig

ONNX = frameworks.get("onnx")


def _model(signature: str, body: str) -> Model:
    return Model(ir.from_onnx_text(f'<ir_version: 10, opset_import: ["": 28]> digits {signature} {{ {body} }}'))


_NEGATIVE = ("(float[batch, 3] x, int64[batch] id) => (y, same)", "[a] y = Neg(x) [b] same = Identity(id)")


def test_an_entry_is_served_and_loaded(tmp_path):
    entry = save_entry(ONNX.write(_model(*_NEGATIVE)), tmp_path, certificate={"passed": True})
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "digits/1/model.onnx",
        "digits/certificate.json",
        "digits/config.pbtxt",
    ]
    assert json.loads((entry / "certificate.json").read_text()) == {"passed": True}
    x = np.ones((2, 3), "float32")
    assert (runtime.load(entry)(x, np.arange(2)).y == -1).all()
    with pytest.raises(FileError, match="already exists"):
        save_entry(ONNX.write(_model(*_NEGATIVE)), tmp_path)


def test_the_next_model_becomes_the_next_version(tmp_path):
    source = ONNX.write(_model(*_NEGATIVE))
    assert add_version(source, tmp_path, "m") == tmp_path / "m" / "1"
    assert add_version(source, tmp_path, "m", certificate={"passed": True}) == tmp_path / "m" / "2"
    assert json.loads((tmp_path / "m" / "2" / "certificate.json").read_text()) == {"passed": True}
    assert runtime.load(tmp_path / "m", version=2)(np.ones((2, 3), "float32"), np.arange(2)).y.sum() == -6
    other = ONNX.write(_model("(float[batch, 4] x) => (y)", "[a] y = Neg(x)"))
    with pytest.raises(FileError, match="'x' has the sizes"):
        add_version(other, tmp_path, "m")
    with pytest.raises(FileError, match="no name of a model"):
        add_version(source, tmp_path, "../m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["1", "2", "config.pbtxt"]


def _config(model: Model, name: str, max_batch_size: int = 64):
    return text_format.Parse(config(ONNX.write(model), name, max_batch_size), ModelConfig())


def test_config_of_a_model_with_a_free_batch():
    found = _config(_model(*_NEGATIVE), "digits", 8)
    assert (found.name, found.platform, found.max_batch_size) == ("digits", "onnxruntime_onnx", 8)
    ports = [(p.name, p.data_type, list(p.dims), p.HasField("reshape")) for p in (*found.input, *found.output)]
    fp32, int64 = 11, 9
    assert ports == [
        ("x", fp32, [3], False),
        ("id", int64, [1], True),
        ("y", fp32, [3], False),
        ("same", int64, [1], True),
    ]


@pytest.mark.parametrize(
    ("signature", "dims"),
    [
        ("(float[1, 3, h, w] x) => (y)", [1, 3, -1, -1]),
        ("(float[a] x, float[b] z) => (y)", [-1]),
    ],
)
def test_config_of_a_model_without_one_batch_has_all_dims(signature, dims):
    found = _config(_model(signature, "[a] y = Neg(x)"), "m")
    assert found.max_batch_size == 0 and list(found.input[0].dims) == dims


def test_save_makes_a_file_or_an_entry(tmp_path):
    source = ONNX.write(_model(*_NEGATIVE))
    ONNX.save(source, tmp_path / "m.onnx")
    ONNX.save(source, tmp_path / "served")
    assert (tmp_path / "m.onnx").is_file() and 'name: "served"' in (tmp_path / "served" / "config.pbtxt").read_text()
    onnx_files = list((tmp_path / "served").rglob("*.onnx"))
    assert [p.parent.name for p in onnx_files] == ["1"]
