"""Caches among the inputs of a module: their names, free lengths, and what cannot be said of them."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, SignatureError
from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision, which transformers imports)

transformers = pytest.importorskip("transformers")


class Layer:
    def __init__(self, keys, values):
        self.keys, self.values = keys, values


class Cache:
    def __init__(self, layers):
        self.layers = layers


class Counting(Cache):
    """Keeps its length as a number."""

    def __init__(self, layers):
        super().__init__(layers)
        self.length = layers[0].keys.shape[1]


class Rows(Cache):
    """Holds its tensors in tuples."""

    def __init__(self, layers):
        self.rows = tuple((layer.keys, layer.values) for layer in layers)


class Attention(nn.Module):
    """Two layers of attention to all that is behind; ``form`` says how its cache is held."""

    def __init__(self, form="object"):
        super().__init__()
        self.form = form
        self.embed = nn.Embedding(20, 8)
        self.projections = nn.ModuleList([nn.Linear(8, 24) for _ in range(2)])

    def forward(self, ids, past=None):
        x = self.embed(ids)
        present = []
        for index, projection in enumerate(self.projections):
            query, key, value = projection(x).chunk(3, -1)
            if past is not None:
                before = past[index] if self.form == "tuples" else past.layers[index]
                pair = before if self.form == "tuples" else (before.keys, before.values)
                key, value = torch.cat([pair[0], key], 1), torch.cat([pair[1], value], 1)
            x = x + torch.softmax(query @ key.transpose(1, 2), -1) @ value
            present.append((key, value))
        if self.form == "tuples":
            return x, tuple(present)
        return {"x": x, "past_key_values": Cache([Layer(*pair) for pair in present])}


def live(kind=Cache, length=5, batch=2):
    return kind([Layer(torch.randn(batch, length, 8), torch.randn(batch, length, 8)) for _ in range(2)])


FREE = {"ids": {0: "batch", 1: "seq"}} | {
    f"past.{layer}.{what}": {0: "batch", 1: "behind"} for layer in (0, 1) for what in ("key", "value")
}
IDS = torch.ones(2, 3, dtype=torch.long)


@pytest.mark.parametrize("target", ["pytorch", "onnx", "keras"])
@pytest.mark.parametrize("behind", [1, 9])
def test_a_live_cache_among_the_examples_is_inputs_of_free_length(target, behind):
    module = Attention().eval()
    model = dlbridge.load(module, inputs={"ids": IDS, "past": live()}, dynamic=FREE)
    names = [f"{layer}.{what}" for layer in (0, 1) for what in ("key", "value")]
    assert [v.name for v in model.inputs] == ["ids", *(f"past.{name}" for name in names)]
    assert [v.name for v in model.outputs] == ["x", *(f"present.{name}" for name in names)]
    cache = live(length=behind, batch=3)
    ids = torch.tensor([[3, 1], [4, 1], [5, 9]])
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    feeds = {"ids": ids.numpy(), **{f"past.{n}": t.numpy() for n, t in zip(names, tensors, strict=True)}}
    with torch.no_grad():
        wanted = module(ids, cache)
    framework = frameworks.get(target)
    found = framework.run(framework.load(dlbridge.convert(model, target)), feeds)
    np.testing.assert_allclose(found["x"], wanted["x"], atol=1e-5)
    np.testing.assert_allclose(found["present.1.value"], wanted["past_key_values"].layers[1].values, atol=1e-5)


def test_dotted_names_are_nested_tuples():
    module = Attention("tuples").eval()
    said = {f"past.{layer}.{part}": "float32[batch,behind,8]" for layer in (0, 1) for part in (0, 1)}
    model = dlbridge.load(module, inputs={"ids": "int64[batch,seq]", **said})
    assert [v.name for v in model.inputs] == ["ids", *said]
    dlbridge.convert(model, "onnx")


def test_what_is_said_of_a_part_of_a_live_cache_frees_its_sizes():
    said = {f"past.{layer}.{what}": "[batch,behind,8]" for layer in (0, 1) for what in ("key", "value")}
    model = dlbridge.load(Attention().eval(), inputs={"ids": "int64[batch,seq]", "past": live(), **said})
    assert [str(v.shape) for v in model.inputs[1:]] == ["[batch,behind,8]"] * 4


def test_a_cache_that_keeps_a_free_length_as_a_number_is_refused():
    with pytest.raises(SignatureError, match=r"holds the number 5 \(length\), which is also a free size"):
        dlbridge.load(Attention().eval(), inputs={"ids": IDS, "past": live(Counting)}, dynamic=FREE)


def test_a_cache_of_a_fixed_length_may_keep_it():
    model = dlbridge.load(Attention().eval(), inputs={"ids": IDS, "past": live(Counting)}, dynamic={})
    assert str(model.inputs[1].shape) == "[2,5,8]"


def test_tensors_in_tuples_within_an_object_are_refused():
    with pytest.raises(SignatureError, match="holds its tensors in tuples"):
        dlbridge.load(Attention().eval(), inputs={"ids": IDS, "past": live(Rows)})


class Deaf(nn.Module):
    """Takes a cache and does nothing with it."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)

    def forward(self, ids, past_key_values):
        return self.embed(ids)


def test_a_cache_that_the_module_does_not_read_is_refused():
    said = {f"past_key_values.0.{part}": "float32[batch,behind,8]" for part in ("key", "value")}
    with pytest.raises(SignatureError, match=r"does not read its input 'past_key_values\.0\.key'"):
        dlbridge.load(Deaf().eval(), inputs={"ids": "int64[batch,seq]", **said})


class Branching(nn.Module):
    def forward(self, x, past):
        total = torch.cat([past, x], 1)
        return total + 1 if past.shape[1] == 0 else total


def test_a_module_that_does_something_else_where_nothing_is_behind_is_refused():
    with pytest.raises(DlbridgeError, match="takes another way where 'behind' is 0"):
        dlbridge.load(Branching(), inputs={"x": "float32[batch,n]", "past": "float32[batch,0<=behind]"})
    model = dlbridge.load(Branching(), inputs={"x": "float32[batch,n]", "past": "float32[batch,behind]"})
    dlbridge.convert(model, "onnx")


def llama(layers=1):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(vocab_size=50, num_hidden_layers=layers, **sizes)
    return transformers.LlamaForCausalLM(config).eval()


def test_the_cache_of_transformers_with_a_mask_that_is_padded_left():
    module = llama()
    said = {f"past_key_values.0.{what}": "float32[batch,2,0<=past,4]" for what in ("key", "value")}
    mask = "int64[batch,past+seq]"
    model = dlbridge.load(module, inputs={"input_ids": "int64[batch,seq]", "attention_mask": mask, **said})
    run = frameworks.get("onnx")
    written = run.load(dlbridge.convert(model, "onnx"))
    ids = torch.randint(3, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[0, :4] = mask[1, :1] = 0
    with torch.no_grad():
        whole = module(input_ids=ids, attention_mask=mask).logits.numpy()
    past = {name: np.zeros((3, 2, 0, 4), np.float32) for name in said}
    for begin, end in ((0, 6), (6, 7), (7, 9)):  # a prompt, a step, two at once
        feed = {"input_ids": ids[:, begin:end].numpy(), "attention_mask": mask[:, :end].numpy(), **past}
        found = run.run(written, feed)
        real = mask[:, begin:end].numpy() == 1
        np.testing.assert_allclose(found["logits"][real], whole[:, begin:end][real], atol=1e-5)
        past = {name: found[name.replace("past_key_values", "present")] for name in said}


def test_a_live_cache_of_transformers_is_the_pattern_of_others():
    module = llama()
    ids, mask = torch.ones(2, 3, dtype=torch.long), torch.ones(2, 8, dtype=torch.long)
    cache = transformers.DynamicCache([(torch.randn(2, 2, 5, 4), torch.randn(2, 2, 5, 4))])
    free = {f"cache.0.{what}": {0: "batch", 2: "past"} for what in ("key", "value")}
    dynamic = {"input_ids": {0: "batch", 1: "seq"}, "attention_mask": {0: "batch", 1: "past+seq"}, **free}
    model = dlbridge.load(module, inputs={"input_ids": ids, "attention_mask": mask, "cache": cache}, dynamic=dynamic)
    assert [v.name for v in model.inputs] == ["input_ids", "attention_mask", *free]
    assert str(model.inputs[2].shape) == "[batch,2,past,4]"
    dlbridge.convert(model, "onnx")


def test_a_cache_of_transformers_that_lacks_a_layer_is_refused():
    said = {f"past_key_values.1.{what}": "float32[batch,2,past,4]" for what in ("key", "value")}
    with pytest.raises(SignatureError, match="layer 0 of the cache is not said by its key and value"):
        dlbridge.load(llama(), inputs={"input_ids": "int64[batch,seq]", **said})


def test_a_static_cache_goes_on_where_its_length_says():
    """Keys and values of a fixed length, of which a tensor says how many are there: two steps with the form's own."""
    from tests.helpers.generating import tiny

    module = tiny("Llama")
    cache = transformers.StaticCache(config=module.config, max_cache_len=16)
    name = next(name for name in ("cache", "past_key_values") if name in inspect.signature(module.forward).parameters)
    tokens = torch.randint(3, 40, (2, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        module(input_ids=tokens[:, :4], **{name: cache}, use_cache=True)
    model = dlbridge.load(module, inputs={"input_ids": tokens[:, 4:5], name: copy.deepcopy(cache)})
    names = {"keys": "key", "values": "value", "cumulative_length": "cumulative_length"}
    held = {
        f"{name}.{index}.{said}": getattr(layer, attribute).numpy().copy()
        for index, layer in enumerate(cache.layers)
        for attribute, said in names.items()
    }
    assert {value.name for value in model.inputs} == {"input_ids", *held}
    for framework in ("pytorch", "onnx"):
        target, own, past = frameworks.get(framework), copy.deepcopy(cache), dict(held)
        loaded = target.load(model.write(framework))
        for step in (4, 5):
            token = tokens[:, step : step + 1]
            with torch.no_grad():
                wanted = module(input_ids=token, **{name: own}, use_cache=True).logits.numpy()
            found = target.run(loaded, {"input_ids": token.numpy(), **past})
            np.testing.assert_allclose(found["logits"], wanted, atol=1e-5)
            past = {key: found[key.replace(name, "present", 1)] for key in past}
        assert past[f"{name}.0.cumulative_length"] == 6
