"""A language model that generates as those of keras_hub do, by ``call_with_cache``: the same tokens, everywhere."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
import pytest
from keras import ops

import dlbridge
from dlbridge import tasks
from dlbridge.errors import DlbridgeError

WORDS, HEADS, WIDTH, LAYERS = 24, 2, 4, 2
PROMPTS = [[5, 6, 7, 8, 9], [12], [20, 21, 22]]


class Attention(keras.layers.Layer):
    """Attention that writes its keys and values into a cache, and says the shape of its first result alone."""

    def build(self, shape):
        size = HEADS * WIDTH
        self.parts = [keras.layers.EinsumDense("btd,dhw->bthw", (None, HEADS, WIDTH), name=n) for n in "qkv"]
        for part in self.parts:
            part.build(shape)
        self.out = keras.layers.EinsumDense("bthw,hwd->btd", (None, size), name="out")
        self.out.build((None, None, HEADS, WIDTH))
        self.built = True

    def call(self, x, cache=None, cache_update_index=None):
        q, k, v = (part(x) for part in self.parts)
        start = [0, cache_update_index, 0, 0]
        k = ops.slice_update(cache[:, 0, ...], start, k)
        v = ops.slice_update(cache[:, 1, ...], start, v)
        queries = ops.arange(ops.shape(x)[1], dtype="float32") + ops.cast(cache_update_index, "float32")
        seen = queries[:, None] >= ops.arange(ops.shape(cache)[2], dtype="float32")
        scores = ops.einsum("bthw,bshw->bhts", q, k) / WIDTH**0.5
        weights = ops.softmax(ops.where(seen[None, None], scores, -1e9))
        return self.out(ops.einsum("bhts,bshw->bthw", weights, v)), ops.stack((k, v), axis=1)

    def compute_output_shape(self, x_shape):
        return x_shape


class TinyCausalLM(keras.Model):
    def __init__(self):
        super().__init__(name="tiny")
        size = HEADS * WIDTH
        self.words = keras.layers.Embedding(WORDS, size, name="words")
        self.places = self.add_weight(shape=(32, size), name="places")
        self.blocks = [Attention(name=f"attention_{i}") for i in range(LAYERS)]
        self.head = keras.layers.Dense(WORDS, name="head")

    def call_with_cache(self, token_ids, cache, cache_update_index):
        count = ops.shape(token_ids)[1]
        x = self.words(token_ids) + ops.slice(self.places, (cache_update_index, 0), (count, HEADS * WIDTH))
        found = []
        for i, block in enumerate(self.blocks):
            y, new = block(x, cache=cache[:, i, ...], cache_update_index=cache_update_index)
            x = x + y
            found.append(new)
        return self.head(x), x, ops.stack(found, axis=1)

    def _build_cache(self, token_ids):
        rows, count = ops.shape(token_ids)
        cache = ops.zeros((rows, LAYERS, 2, count, HEADS, WIDTH))
        _, hidden, cache = self.call_with_cache(token_ids, cache, 0)
        return hidden, cache

    def said(self, prompt, steps):
        """The most probable tokens, each from all before it."""
        tokens = list(prompt)
        for _ in range(steps):
            room = ops.zeros((1, LAYERS, 2, len(tokens), HEADS, WIDTH))
            logits, _, _ = self.call_with_cache(ops.array([tokens]), room, 0)
            tokens.append(int(np.argmax(logits[0, -1])))
        return tokens[len(prompt) :]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    made = TinyCausalLM()
    made._build_cache(ops.ones((1, 2), "int32"))
    for weight in made.weights:
        weight.assign(np.random.default_rng(len(weight.path)).standard_normal(weight.shape) * 0.6)
    return made


def test_the_same_tokens_of_prompts_of_several_lengths(model):
    wanted = [model.said(prompt, 8) for prompt in PROMPTS]
    assert len({token for row in wanted for token in row}) > 4  # a model that repeats itself shows little
    for target in ("onnx", "pytorch", "keras"):
        written = dlbridge.convert(model, target, task="generate", check=target == "onnx")
        assert tasks.generator(written).generate(PROMPTS, max_tokens=8) == wanted, target


def test_the_cache_has_the_names_that_other_programs_give(model):
    read = dlbridge.load(model, task="generate")
    caches = [f"{layer}.{kind}" for layer in range(LAYERS) for kind in ("key", "value")]
    assert {v.name: str(v.shape) for v in read.inputs} == {
        "input_ids": "[batch,seq]",
        **{f"past_key_values.{name}": f"[batch,{HEADS},past,{WIDTH}]" for name in caches},
    }
    assert {v.name: str(v.shape) for v in read.outputs} == {
        "logits": f"[batch,seq,{WORDS}]",
        **{f"present.{name}": f"[batch,{HEADS},past + seq,{WIDTH}]" for name in caches},
    }
    found = Counter(node.op_type for node in read.graph)
    assert found["Slice"] == 1 and not found["ScatterND"], found  # that of the positions: what is behind is joined


def test_what_does_not_generate_says_so(model):
    dense = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(DlbridgeError, match="no causal language model of keras_hub"):
        dlbridge.load(dense, task="generate")
    with pytest.raises(DlbridgeError, match="it has no encoder"):
        dlbridge.load(model, task="encode")
    with pytest.raises(DlbridgeError, match="says the inputs and the cache itself"):
        dlbridge.load(model, task="generate", inputs={"input_ids": "int64[batch,seq]"})
    with pytest.raises(DlbridgeError, match=r"(?s)no task 'generat'.*did you mean 'generate'"):
        dlbridge.convert(model, "onnx", task="generat")
