"""``config.pbtxt``: read, completed from the model, and refused where it makes no sense."""

import pytest

from dlbridge.errors import FileError
from dlbridge.repository import config as configs
from dlbridge.repository.config import Signature

SIGNATURE = Signature(
    {"x": ("FP32", ("batch", 3)), "n": ("INT64", ("batch",))}, {"y": ("FP32", ("batch", 3)), "s": ("FP32", ())}
)


def read(tmp_path, text):
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "config.pbtxt").write_text(text)
    return configs.read(folder)


def test_what_is_left_out_comes_from_the_model(tmp_path):
    done = configs.complete(read(tmp_path, ""), SIGNATURE, "model")
    assert (done.name, done.platform, done.backend) == ("model", "onnxruntime_onnx", "onnxruntime")
    assert [(p.name, list(p.dims)) for p in done.input] == [("x", [-1, 3]), ("n", [-1])]
    assert [(p.name, list(p.dims), p.HasField("reshape")) for p in done.output] == [
        ("y", [-1, 3], False),
        ("s", [1], True),
    ]
    assert sum(g.count for g in done.instance_group) == 1
    assert configs.complete(done, SIGNATURE, "model") == done
    (tmp_path / "model" / "config.pbtxt").write_text(configs.text(done))
    assert configs.read(tmp_path / "model") == done


PORT = 'input { name: "x" data_type: TYPE_FP32 dims: [-1, 3] } '
#: Configuration -> a word of why it is refused.
REFUSED = {
    'name: "other"': "its folder is 'model'",
    "name: 3": "not a model configuration",
    "nonsense: 1": "not a model configuration",
    "max_batch_size: -1": "max_batch_size is -1",
    'platform: "tensorrt_plan"': "platform 'tensorrt_plan'",
    'backend: "python"': "backend 'python'",
    'platform: "ensemble"': "belong together",
    "model_transaction_policy { decoupled: true }": "decoupled",
    'default_model_filename: "../x.onnx"': "no file name",
    PORT + PORT: "2 times",
    'input { name: "x" dims: 1 }': "no data_type",
    'input { name: "x" data_type: TYPE_FP32 }': "no dims",
    'input { name: "x" data_type: TYPE_FP32 dims: [0] }': "a size is at least 1",
    'input { name: "x" data_type: TYPE_FP32 dims: [4] reshape { shape: [3] } }': "cannot be reshaped",
    "sequence_batching { }": "sequence_batching",
    "dynamic_batching { preferred_batch_size: 4 }": "preferred_batch_size 4",
    "max_batch_size: 2 dynamic_batching { preferred_batch_size: 4 }": "preferred_batch_size 4",
    "max_batch_size: 2 dynamic_batching { priority_levels: 2 }": "default_priority_level",
    'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "x" source_input: "y" }': "batch_input is not served",
    'batch_output { target_name: "y" source_input: "x" }': "batch_output is not served",
    'cc_model_filenames { key: "8.0" value: "other.onnx" }': "cc_model_filenames is not served",
    'model_operations { op_library_filename: "ops.so" }': "libraries of operators",
    "instance_group { passive: true }": "passive",
    "instance_group { count: -1 }": "count -1",
    "instance_group { kind: KIND_MODEL }": "KIND_MODEL",
    "instance_group { kind: KIND_CPU gpus: 0 }": "names gpus",
}


@pytest.mark.parametrize(("text", "word"), REFUSED.items())
def test_a_configuration_is_refused_with_its_reason(tmp_path, text, word):
    with pytest.raises(FileError, match=word):
        read(tmp_path, text)


#: Configuration that the model does not fit -> a word of why.
MISFITS = {
    'input { name: "z" data_type: TYPE_FP32 dims: [-1, 3] }': "no 'z'",
    'input { name: "x" data_type: TYPE_FP64 dims: [-1, 3] }': "TYPE_FP32 in the model",
    'input { name: "x" data_type: TYPE_FP32 dims: [-1, 4] }': "sizes",
    PORT: "has an input 'n'",
    "max_batch_size: 8": "first size of 's'",
}


@pytest.mark.parametrize(("text", "word"), MISFITS.items())
def test_a_configuration_that_the_model_does_not_fit_is_refused(tmp_path, text, word):
    with pytest.raises(FileError, match=word):
        configs.complete(read(tmp_path, text), SIGNATURE, "model")
