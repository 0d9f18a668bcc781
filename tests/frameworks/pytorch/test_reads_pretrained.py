"""Folders that Hugging Face models were saved to."""

import json
import sys
import warnings

import numpy as np
import pytest
import torch

import dlbridge
from dlbridge.errors import DlbridgeError, DlbridgeWarning, FileError, MissingExtraError, WeightsError
from dlbridge.frameworks.pytorch.files import pretrained
from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision, which transformers imports)

transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder with a classifier, whose weights are in several files."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "my-bert"
    config = transformers.BertConfig(vocab_size=20, max_position_embeddings=40, num_labels=3, **SMALL)
    transformers.BertForSequenceClassification(config).save_pretrained(folder, max_shard_size="4KB")
    assert (folder / "model.safetensors.index.json").is_file()
    return folder


@pytest.fixture
def changed(bert, tmp_path):
    """Copies the folder, with another configuration."""

    def make(**config):
        folder = tmp_path / "changed"
        folder.mkdir()
        for file in bert.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        said = {**json.loads((bert / "config.json").read_text()), **config}
        (folder / "config.json").write_text(json.dumps({k: v for k, v in said.items() if v is not None}))
        return folder

    return make


def _signature(values):
    return [f"{v.name}:{v.dtype.name}{v.shape}" for v in values]


def test_a_folder_is_read_with_the_class_and_inputs_of_its_configuration(bert):
    model = dlbridge.load(bert)
    assert model.name == "my_bert"
    assert _signature(model.inputs) == ["input_ids:INT64[batch,seq]", "attention_mask:INT64[batch,seq]"]
    assert _signature(model.outputs) == ["logits:FLOAT[batch,3]"]
    live = transformers.BertForSequenceClassification.from_pretrained(bert).eval()
    ids, mask = np.arange(14, dtype=np.int64).reshape(2, 7), np.ones((2, 7), np.int64)
    with torch.no_grad():
        wanted = live(torch.from_numpy(ids), torch.from_numpy(mask)).logits.numpy()
    found = model.original({"input_ids": ids, "attention_mask": mask})["logits"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)
    dlbridge.convert(model, "keras")


def test_an_input_that_the_user_names_has_the_dtype_that_the_model_takes(bert):
    model = dlbridge.load(bert, inputs={"input_ids": "[batch,6]"})
    assert _signature(model.inputs) == ["input_ids:INT64[batch,6]"]


def test_images_have_the_size_that_the_configuration_says(tmp_path):
    config = transformers.ViTConfig(image_size=16, patch_size=8, **SMALL)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    assert _signature(dlbridge.load(tmp_path / "vit").inputs) == ["pixel_values:FLOAT[batch,3,16,16]"]


def test_weights_that_the_folder_does_not_have_are_not_made_up(changed):
    with pytest.raises(WeightsError, match=r"missing: .*qa_outputs"):
        dlbridge.load(changed(architectures=["BertForQuestionAnswering"]))


def test_weights_that_are_left_out_are_told(changed):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dlbridge.load(changed(architectures=["BertModel"]))
    assert any("classifier.bias" in str(w.message) for w in caught if issubclass(w.category, DlbridgeWarning))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"architectures": None}, "names no single class"),
        ({"architectures": ["BertModel", "BertForMaskedLM"]}, "names no single class"),
        ({"architectures": ["BertForNothing"]}, "has no model BertForNothing"),
        ({"architectures": ["os.system"]}, "has no model os.system"),
        ({"architectures": ["BertTokenizer"]}, "has no model BertTokenizer"),
        ({"num_hidden_layers": "many"}, "cannot be read"),
    ],
)
def test_a_configuration_that_says_no_model_is_an_error(changed, config, why):
    with pytest.raises(DlbridgeError, match=why):
        dlbridge.load(changed(**config))


CODE = """
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
from transformers import BertForSequenceClassification
class OwnBert(BertForSequenceClassification):
    pass
"""


def test_code_in_the_folder_runs_only_where_the_user_says_so(changed, monkeypatch, tmp_path):
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    auto = {"AutoModelForSequenceClassification": "own.OwnBert"}
    folder = changed(architectures=["OwnBert"], auto_map=auto)
    (folder / "own.py").write_text(CODE)
    with pytest.raises(FileError, match="which is not run") as caught:
        dlbridge.load(folder)
    assert "--trust-code" in caught.value.hint
    assert not [*tmp_path.rglob("ran")]
    assert [v.name for v in dlbridge.load(folder, trust_code=True).outputs] == ["logits"]
    assert [*tmp_path.rglob("ran")]


def test_a_broken_file_of_weights_is_an_error(changed):
    folder = changed()
    next(folder.glob("*.safetensors")).write_bytes(b"nothing")
    with pytest.raises(FileError):
        dlbridge.load(folder)


def test_transformers_that_is_not_installed_is_named(bert, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match="transformers"):
        dlbridge.load(bert)


def test_transformers_that_cannot_be_imported_whole_says_why(bert, monkeypatch):
    class Broken:
        def __getattr__(self, name):
            try:
                raise RuntimeError("operator torchvision::nms does not exist")
            except RuntimeError as error:
                raise ModuleNotFoundError(f"Could not import module '{name}'.") from error

    monkeypatch.setattr(pretrained, "require", lambda *_: Broken())
    why = r"transformers cannot import BertForSequenceClassification: operator torchvision::nms does not exist"
    with pytest.raises(FileError, match=why):
        dlbridge.load(bert)
