"""Words looked up in a vocabulary: what Keras makes of strings of every kind, onnxruntime makes of them too."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import layers as L

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError
from tests.helpers.keras_reading import errors

WORDS = ["cat", "dog", "é", "New York", "[x]", "CAT"]
#: Known ones, some twice; unknown ones, empty, spaces, the token of unknown words, beyond ASCII.
TEXTS = ["cat", "dog", "cat", "é", "É", "e\u0301", "New York", "", " ", "cat ", "[UNK]", "[x]", "CAT", "日本", "😀"]
WEIGHTS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def strings(*rows):
    return np.array(rows, dtype=object)


def model_of(layer, shape=(3,), dtype="string"):
    words = keras.Input(shape, dtype=dtype, name="words")
    return keras.Model(words, layer(words), name="net")


def read(model):
    return frameworks.get("keras").read(model)


LOOKUPS = {
    "int": {},
    "int with a mask": {"mask_token": ""},
    "int with a mask that is a word": {"mask_token": "é!"},
    "one-hot": {"output_mode": "one_hot"},
    "multi-hot": {"output_mode": "multi_hot"},
    "multi-hot with a mask": {"output_mode": "multi_hot", "mask_token": ""},
    "count": {"output_mode": "count"},
    "count, padded": {"output_mode": "count", "max_tokens": 12, "pad_to_max_tokens": True},
    "tf-idf": {"output_mode": "tf_idf", "idf_weights": WEIGHTS},
    "another token for unknown words": {"oov_token": "cat!"},
}


@pytest.mark.parametrize("shape", [(), (1,), (3,)], ids=["a word", "a column", "words"])
@pytest.mark.parametrize("name", LOOKUPS)
def test_words_are_looked_up_as_keras_does(name, shape):
    data = {"words": strings(*TEXTS).reshape(-1, *shape)}
    if shape == () and LOOKUPS[name].get("output_mode") in ("multi_hot", "count", "tf_idf"):
        pytest.skip("Keras takes the whole batch for one sample")
    assert errors(model_of(L.StringLookup(vocabulary=WORDS, **LOOKUPS[name]), shape), data=data)["onnx"] == 0


@pytest.mark.parametrize("dtype", ["int64", "int32"])
@pytest.mark.parametrize("options", [{}, {"mask_token": ""}, {"oov_token": "?"}])
def test_indices_become_words_again(options, dtype):
    model = model_of(L.StringLookup(vocabulary=WORDS, invert=True, **options), dtype=dtype)
    indices = np.arange(-3, 12, dtype=dtype).reshape(-1, 3)
    found = read(model)
    wanted = keras.ops.convert_to_numpy(model(indices))
    framework = frameworks.get("onnx")
    (got,) = framework.run(framework.load(found.write("onnx")), {"words": indices}).values()
    assert [w.decode() for w in wanted.ravel()] == list(got.ravel())
    assert next(iter(found.original({"words": indices}).values())).tolist() == got.tolist()


def test_words_become_words_again():
    words = keras.Input((3,), dtype="string", name="words")
    index = L.StringLookup(vocabulary=WORDS)(words)
    model = keras.Model(words, L.StringLookup(vocabulary=WORDS, invert=True)(index))
    assert dlbridge.verify(read(model), routes=["onnx"]).passed


def test_an_adapted_vocabulary_is_read():
    layer = L.StringLookup()
    layer.adapt(strings(["b", "a", "b"]))
    assert errors(model_of(layer), data={"words": strings(["a", "b", "c"])})["onnx"] == 0


@pytest.mark.parametrize("mode", ["int", "one_hot"])
def test_a_word_that_keras_raises_on_is_refused_when_it_is_run(mode):
    layer = L.StringLookup(vocabulary=WORDS, num_oov_indices=0, output_mode=mode)
    known = strings(WORDS[:3], WORDS[3:])
    model = model_of(layer)
    assert errors(model, data={"words": known})["onnx"] == 0
    framework = frameworks.get("onnx")
    with pytest.raises(Exception, match="out of data bounds"):
        framework.run(framework.load(read(model).write("onnx")), {"words": strings(["cat", "cow", "dog"])})
    assert dlbridge.verify(read(model), routes=["onnx"]).passed


REFUSED = {
    "by a hash": (lambda: L.StringLookup(vocabulary=WORDS, num_oov_indices=2), "num_oov_indices=2.*num_oov_indices=1"),
    "in another encoding": (lambda: L.StringLookup(vocabulary=WORDS, encoding="latin-1"), "latin-1.*UTF-8"),
    "a hash of strings": (lambda: L.Hashing(4), "FarmHash.*StringLookup"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_standard_has_not_is_refused(name):
    make, why = REFUSED[name]
    with pytest.raises(UnsupportedOpError, match=re.compile(why, re.S)) as raised:
        read(model_of(make()))
    assert raised.value.where == "net"


@pytest.mark.parametrize("framework", ["pytorch", "keras", "nnx"])
def test_a_framework_without_strings_says_where_they_are_and_where_to_cut(framework):
    words = keras.Input((3,), dtype="string", name="words")
    index = L.StringLookup(vocabulary=WORDS, name="look")(words)
    model = read(keras.Model(words, L.Embedding(7, 4, name="embed")(index)))
    with pytest.raises(UnsupportedOpError, match=f"{framework} has no strings.*look \\(LabelEncoder\\)") as raised:
        model.write(framework)
    assert "--from look" in raised.value.hint


def test_a_file_of_strings_is_read_again_and_cut_behind_them(tmp_path):
    words = keras.Input((3,), dtype="string", name="words")
    index = L.StringLookup(vocabulary=WORDS, name="look")(words)
    model = read(keras.Model(words, L.Dense(2)(L.Flatten()(L.Embedding(7, 4)(index)))))
    model.to_onnx(tmp_path / "net.onnx")
    again = dlbridge.load(tmp_path / "net.onnx")
    assert dlbridge.verify(again).passed
    assert dlbridge.verify(model, again).passed
    cut = dlbridge.load(tmp_path / "net.onnx", from_values=("look",))
    assert cut.to_pytorch() is not None


@pytest.mark.parametrize("layer", [L.Dense(2), L.EinsumDense("ab,bc->ac", (3,))])
def test_counts_of_words_which_are_integers_are_multiplied_by_weights(layer):
    words = keras.Input((3,), dtype="string", name="words")
    model = keras.Model(words, layer(L.StringLookup(vocabulary=WORDS, output_mode="count")(words)))
    assert errors(model, data={"words": strings(*TEXTS).reshape(-1, 3)})["onnx"] <= 1e-6
