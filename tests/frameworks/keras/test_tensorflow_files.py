"""SavedModel and TensorFlow Lite: written from the Keras model, run by TensorFlow, and read back through tf2onnx."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import FileError, WrittenModelError
from dlbridge.verification import verify
from dlbridge.verification.routes import known, usual

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.filterwarnings("ignore")


class Net(nn.Module):
    """Two inputs and two outputs, whose names are in another order than they come."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(6, 2)

    def forward(self, x, a):
        y = torch.relu(self.norm(self.conv(x)))
        return {"scores": self.head(torch.cat([y.mean((2, 3)), a], 1)), "image": y}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return dlbridge.load(Net().eval(), inputs={"x": "float32[batch,3,8,8]", "a": "float32[batch,2]"})


def _arrays(rows):
    random = np.random.default_rng(rows)
    return {
        "x": random.standard_normal((rows, 3, 8, 8)).astype("float32"),
        "a": random.standard_normal((rows, 2)).astype("float32"),
    }


def _same(right, found):
    assert right.keys() == found.keys()
    for name, array in right.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5)


@pytest.mark.parametrize("name", ["savedmodel", "tflite"])
def test_what_is_written_is_checked_and_read_back(model, name, tmp_path):
    target = tmp_path / ("net.tflite" if name == "tflite" else "net")
    dlbridge.convert(model, name, target)
    again = dlbridge.load(target, inputs={"x": "[batch,3,8,8]", "a": "[batch,2]"})
    arrays = _arrays(3)
    right = model.original(arrays)
    _same(right, again.original(arrays))
    live = frameworks.get("pytorch")
    _same(right, live.run(live.load(again.write("pytorch")), arrays))
    if name == "savedmodel":
        assert json.loads((target / "certificate.json").read_text())["routes"]


def test_forms_are_compared_where_they_are_asked_for(model):
    assert {"tflite", "savedmodel"} <= set(known(model)) - set(usual(model))
    assert verify(model, routes=["tflite"], battery="quick", train_steps=None).passed


def test_a_file_of_few_types_names_what_it_has_no_op_for(tmp_path):
    class Inverse(nn.Module):
        def forward(self, x):
            return torch.linalg.inv(x @ x.mT + torch.eye(3))

    made = dlbridge.load(Inverse(), inputs={"x": "float32[batch,3,3]"})
    with pytest.raises(WrittenModelError, match="TensorFlow Lite has no op for TensorFlow's"):
        dlbridge.convert(made, "tflite", tmp_path / "net.tflite")


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"\x00" * 40)
    with pytest.raises(FileError, match="no file of TensorFlow Lite"):
        dlbridge.load(tmp_path / "a.tflite")
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff")
    with pytest.raises(FileError, match="no SavedModel"):
        dlbridge.load(tmp_path)


def test_a_saved_model_that_reads_files_is_loaded_where_code_is_trusted_alone(tmp_path):
    class Reads(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
        def serve(self, x):
            return {"y": x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)}

    module = Reads()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": module.serve})
    with pytest.raises(FileError, match="ReadFile"):
        dlbridge.load(tmp_path / "m")


def test_a_recurrent_layer_of_a_free_batch_says_what_to_do(tmp_path):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(4, 6, batch_first=True)

        def forward(self, x):
            return self.rnn(x)[0]

    with pytest.raises(WrittenModelError, match=r"needs? a batch that is a number"):
        dlbridge.convert(
            dlbridge.load(Recurrent(), inputs={"x": "float32[batch,7,4]"}), "tflite", tmp_path / "a.tflite"
        )
    dlbridge.convert(dlbridge.load(Recurrent(), inputs={"x": "float32[1,7,4]"}), "tflite", tmp_path / "a.tflite")
