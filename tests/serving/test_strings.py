"""Models that take text: ``BYTES`` of the protocol, as JSON and as bytes behind it."""

from __future__ import annotations

import json

import onnx
import pytest

from dlbridge.serving.tensors import join_strings
from tests.helpers.serving import start

MODEL = """<ir_version: 10, opset_import: ["": 20, "ai.onnx.ml": 2]>
words (string[batch, 2] text) => (int64[batch, 2] index, string[batch, 2] same) {
    index = ai.onnx.ml.LabelEncoder
        <keys_strings = ["cat", "caf\u00e9"], values_int64s = [2, 3], default_int64 = 1> (text)
    same = Identity (text)
}"""
TEXTS = ["cat", "café", "CAT", ""]
PATH = "/v2/models/words/infer"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository") / "words" / "1"
    folder.mkdir(parents=True)
    onnx.save(onnx.parser.parse_model(MODEL), folder / "model.onnx")
    found = start(folder.parent.parent)
    yield found
    assert found.stop() == 0


def _entry(**more):
    return {"name": "text", "shape": [2, 2], "datatype": "BYTES", **more}


def _outputs(answer):
    return {output["name"]: output["data"] for output in answer["outputs"]}


def test_texts_are_looked_up_and_come_back(running):
    status, answer, _ = running.ask("POST", PATH, {"inputs": [_entry(data=TEXTS)]})
    assert status == 200, answer
    assert _outputs(answer) == {"index": [2, 3, 1, 1], "same": TEXTS}


def _binary(running, texts):
    data = join_strings(texts)
    head = json.dumps({"inputs": [_entry(parameters={"binary_data_size": len(data)})]}).encode()
    return running.ask("POST", PATH, head + data, Inference_Header_Content_Length=str(len(head)))


def test_texts_are_taken_as_bytes(running):
    status, answer, _ = _binary(running, [text.encode() for text in TEXTS])
    assert status == 200, answer
    assert _outputs(answer) == {"index": [2, 3, 1, 1], "same": TEXTS}


def test_bytes_that_are_no_text_are_refused(running):
    status, answer, _ = _binary(running, [b"cat", b"\xff\xfe", b"", b""])
    assert status == 400 and "UTF-8" in answer["error"]
