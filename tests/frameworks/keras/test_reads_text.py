"""Text to numbers: what ``TextVectorization`` makes of text of every kind, onnxruntime makes of it too."""

from __future__ import annotations

import re

import keras
import numpy as np
import onnx_ir as ir
import pytest
from keras import layers as L

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError
from dlbridge.ops.evaluator import Evaluator
from tests.helpers.keras_reading import errors

WORDS = ["the", "cat", "sat", "its", "é", "dont", "the cat", "cat sat", "the cat sat", "İ", "a b", "é\u00a0x"]
WEIGHTS = [0.25 * n for n in range(1, len(WORDS) + 1)]
#: Whitespace of every kind between, before and behind words, and that which TensorFlow does not split at; no words;
#: letters whose lower case is not ASCII; punctuation around, within and alone.
TEXTS = [
    "the cat sat",
    "  The\tCAT\n\nsat\r\nthe\x0bcat\x0csat ",
    "",
    " \t ",
    "é É é\u00a0x the\u3000cat the\x1ccat the\x85cat İ i\u0307",
    "It's the cat, the (cat) sat... don't!",
    "t.h.e c-a-t --- !? s.a.t.",
    "\\the [cat] ^sat_ `the` {cat|sat} ~the~ $+<=>@#%&*;:/",
    "the the the cat the cat sat the cat sat",
    "日本 😀 the \u200bcat a b",
]
OPTIONS = {
    "as it is": {},
    "to a length": {"output_sequence_length": 4},
    "lower": {"standardize": "lower"},
    "without punctuation": {"standardize": "strip_punctuation"},
    "not standardized": {"standardize": None},
    "multi-hot": {"output_mode": "multi_hot"},
    "count": {"output_mode": "count", "standardize": "lower"},
    "count, padded": {"output_mode": "count", "max_tokens": 30, "pad_to_max_tokens": True},
    "tf-idf": {"output_mode": "tf_idf", "idf_weights": WEIGHTS},
    "pairs of words": {"output_mode": "multi_hot", "ngrams": 2},
    "three words in a row": {"output_mode": "count", "ngrams": (3,)},
    "not split": {"split": None},
    "not split, lower": {"split": None, "standardize": "lower"},
    "not split, to a length": {"split": None, "output_sequence_length": 4},
    "not split, cut": {"split": None, "standardize": None, "output_sequence_length": 1},
    "not split, multi-hot": {"split": None, "output_mode": "multi_hot"},
}


def column(texts):
    return np.array(texts, dtype=object).reshape(-1, 1)


def model_of(layer, shape=(1,), more=lambda y: y):
    text = keras.Input(shape, dtype="string", name="text")
    return keras.Model(text, more(layer(text)), name="net")


def read(model):
    return frameworks.get("keras").read(model)


@pytest.mark.parametrize("name", OPTIONS)
def test_text_is_vectorized_as_keras_does(name):
    model = model_of(L.TextVectorization(vocabulary=WORDS, **OPTIONS[name]))
    found = read(model)
    assert errors(model, data={"text": column(TEXTS)}, read=found)["onnx"] == 0
    framework = frameworks.get("onnx")
    live = framework.load(found.write("onnx"))
    for text in TEXTS:  # alone: no other row decides the length
        (got,) = framework.run(live, {"text": column([text])}).values()
        wanted = keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(column([text]))))
        np.testing.assert_array_equal(got, wanted, err_msg=repr(text))


@pytest.mark.parametrize("name", ["as it is", "count", "pairs of words", "not split, lower"])
def test_the_reference_evaluator_says_the_same(name):
    model = model_of(L.TextVectorization(vocabulary=WORDS, **OPTIONS[name]))
    (got,) = Evaluator(read(model).ir)({"text": column(TEXTS)}).values()
    np.testing.assert_array_equal(got, keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(column(TEXTS)))))


def test_text_may_be_a_vector():
    model = model_of(L.TextVectorization(vocabulary=WORDS), shape=())
    assert errors(model, data={"text": np.array(TEXTS, dtype=object)})["onnx"] == 0


def test_random_text_is_vectorized_as_keras_does():
    model = model_of(L.TextVectorization(vocabulary=["a", "b", "ab", "x", "é"]))
    framework, random = frameworks.get("onnx"), np.random.default_rng(0)
    live = framework.load(read(model).write("onnx"))
    letters = np.array([*"abxABX.,-'\\[]^ \t\n\r", "é", "É", "\u00a0", "😀", "\u0301"], dtype=object)
    for _ in range(60):
        texts = ["".join(random.choice(letters, random.integers(0, 16))) for _ in range(random.integers(1, 7))]
        (got,) = framework.run(live, {"text": column(texts)}).values()
        wanted = keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(column(texts))))
        np.testing.assert_array_equal(got, wanted, err_msg=repr(texts))


REFUSED = {
    "split at each letter": ({"split": "character"}, "at each character.*split='whitespace'"),
    "split by code": ({"split": lambda x: x}, "by code.*split='whitespace'"),
    "standardized by code": ({"standardize": lambda x: x}, "standardize is code.*'lower'"),
    "ragged": ({"ragged": True}, "ragged.*without ragged=True"),
    "n-grams in order": ({"ngrams": 2}, "ngrams.*output_mode='multi_hot'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_ops_is_refused_with_what_has(name):
    options, why = REFUSED[name]
    text = keras.Input((1,), dtype="string")
    layer = L.TextVectorization(vocabulary=WORDS, name="vectorize", **options)
    with pytest.raises(UnsupportedOpError, match=re.compile(f"vectorize: TextVectorization: .*{why}", re.S)):
        read(keras.Model(text, layer(text)))


def test_an_old_opset_names_the_one_that_splits_strings():
    model = read(model_of(L.TextVectorization(vocabulary=WORDS)))
    with pytest.raises(UnsupportedOpError, match=r"StringSplit.*lowest opset that has it is 20"):
        model.write("onnx", opset=17)


def classifier(vectorize, length=None):
    return model_of(
        vectorize,
        more=lambda y: L.Dense(3, activation="softmax")(
            L.GlobalAveragePooling1D()(L.Embedding(20, 8, mask_zero=length is not None)(y))
        ),
    )


@pytest.mark.parametrize("length", [None, 6])
def test_a_classifier_of_text_is_verified(length):
    report = dlbridge.verify(
        read(classifier(L.TextVectorization(vocabulary=WORDS, output_sequence_length=length), length))
    )
    assert report.passed
    assert set(report.left_out) >= {"pytorch", "keras", "nnx"}
    assert "has no strings" in report.left_out["pytorch"]


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.vectorize = L.TextVectorization(vocabulary=WORDS, standardize="lower", output_sequence_length=4)
        self.embed, self.head = L.Embedding(20, 3), L.Dense(2)

    def call(self, text):
        return self.head(keras.ops.mean(self.embed(self.vectorize(text)), 1))


def test_a_subclassed_model_is_told_that_its_input_is_text():
    model = Net()
    model(keras.ops.convert_to_tensor(column(TEXTS)))
    with pytest.raises(UnsupportedOpError, match=re.compile("vectorize: .*not text.*'string\\[batch,1\\]'", re.S)):
        read(model)
    found = dlbridge.load(model, inputs={"text": "string[batch,1]"})
    assert dlbridge.verify(found, routes=["onnx"], battery="quick").passed


def _shuffled(node):
    words = list(node.attributes["keys_strings"].value)
    node.attributes["keys_strings"] = ir.AttrStrings("keys_strings", words[::-1])


def _padding_for_unknown(node):
    node.attributes["default_int64"] = ir.AttrInt64("default_int64", 0)


FAULTS = {"words in another order": _shuffled, "another index for unknown words": _padding_for_unknown}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_vocabulary_is_found(fault):
    model = read(classifier(L.TextVectorization(vocabulary=WORDS, standardize="lower")))
    source = model.write("onnx")
    (node,) = (
        n for n in source.ir.graph if n.op_type == "LabelEncoder" and len(n.attributes["keys_strings"].value) > 1
    )
    FAULTS[fault](node)
    assert not dlbridge.verify(model, routes=["onnx"], battery="quick", written={"onnx": source}).passed


@pytest.mark.parametrize(("dropped", "standardize"), [("\n", "lower"), ("\x0b", None), ("-", "strip_punctuation")])
def test_a_separator_that_is_not_split_at_is_found(dropped, standardize):
    model = read(classifier(L.TextVectorization(vocabulary=WORDS, standardize=standardize)))
    source = model.write("onnx")
    (node,) = (n for n in source.ir.graph if n.op_type == "StringSplit" and n.attributes["delimiter"].value == dropped)
    node.attributes["delimiter"] = ir.AttrString("delimiter", "\x07")
    assert not dlbridge.verify(model, routes=["onnx"], written={"onnx": source}).passed
