"""What a module returns in classes of its own: a cache's tensors are outputs with nested names, or are left out."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import dlbridge
from dlbridge import frameworks
from dlbridge.cli import cli
from dlbridge.frameworks.pytorch.export.results import plain


class GrowingLayer:
    """Keys and values so far; nothing before the first."""

    def __init__(self):
        self.keys = self.values = None
        self.is_initialized = False

    def update(self, keys, values):
        if self.keys is not None:
            keys, values = torch.cat([self.keys, keys], -2), torch.cat([self.values, values], -2)
        self.keys, self.values, self.is_initialized = keys, values, True
        return keys, values


class GrowingCache:
    def __init__(self, layers):
        self.layers = [GrowingLayer() for _ in range(layers)]
        self._window = torch.ones(())


class BothCache(GrowingCache):
    """That of a decoder with an encoder."""

    def __init__(self, layers):
        self.self_attention_cache, self.cross_attention_cache = GrowingCache(layers), GrowingCache(layers)
        self.is_updated = {0: True}


class Decoder(nn.Module):
    def __init__(self, layers=2):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.projections = nn.ModuleList([nn.Linear(8, 24) for _ in range(layers)])
        self.head = nn.Linear(8, 20)

    def forward(self, ids, past_key_values=None, use_cache=True):
        cache = GrowingCache(len(self.projections)) if past_key_values is None else past_key_values
        x = self.embed(ids)
        for layer, projection in zip(cache.layers, self.projections, strict=True):
            query, key, value = (part.unsqueeze(1) for part in projection(x).chunk(3, -1))
            key, value = layer.update(key, value)
            x = x + nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True).squeeze(1)
        return {"logits": self.head(x), "past_key_values": cache if use_cache else None, "attentions": None}


IDS = {"ids": "int64[batch,length]"}
NAMES = ["logits", *(f"past_key_values.{layer}.{what}" for layer in (0, 1) for what in ("key", "value"))]


@pytest.mark.parametrize("target", ["pytorch", "onnx", "keras"])
def test_a_cache_is_outputs_with_nested_names(target):
    module = Decoder().eval()
    ids = np.array([[3, 1, 4, 1, 5]])
    framework = frameworks.get(target)
    found = framework.run(framework.load(dlbridge.convert(dlbridge.load(module, inputs=IDS), target)), {"ids": ids})
    assert list(found) == NAMES
    with torch.no_grad():
        wanted = module(torch.from_numpy(ids))
    np.testing.assert_allclose(found["logits"], wanted["logits"], atol=1e-5)
    for index, layer in enumerate(wanted["past_key_values"].layers):
        np.testing.assert_allclose(found[f"past_key_values.{index}.key"], layer.keys, atol=1e-5)
        np.testing.assert_allclose(found[f"past_key_values.{index}.value"], layer.values, atol=1e-5)


def test_the_module_that_was_read_returns_its_cache_as_before():
    module = Decoder().eval()
    dlbridge.load(module, inputs=IDS)
    assert isinstance(module(torch.ones(1, 3, dtype=torch.long))["past_key_values"], GrowingCache)


def test_a_cache_can_be_left_out():
    model = dlbridge.load(Decoder().eval(), inputs=IDS, cache=False)
    assert [v.name for v in model.outputs] == ["logits"]
    dlbridge.convert(model, "pytorch")


def test_a_cache_can_be_left_out_of_a_module_that_always_returns_it():
    class Always(Decoder):
        def forward(self, ids):
            found = super().forward(ids)
            return found["logits"], found["past_key_values"]

    model = dlbridge.load(Always().eval(), inputs=IDS, cache=False)
    assert [v.name for v in model.outputs] == ["output_0"]


def test_the_layers_of_two_caches_stand_together():
    cache = BothCache(2)
    for part in (cache.self_attention_cache, cache.cross_attention_cache):
        for layer in part.layers:
            layer.update(torch.zeros(1), torch.zeros(1))
    opened = plain({"cache": cache})["cache"]
    pair = {"key": torch.zeros(1), "value": torch.zeros(1)}
    assert opened == {"0": {"decoder": pair, "encoder": pair}, "1": {"decoder": pair, "encoder": pair}}


class Pair(NamedTuple):
    first: torch.Tensor
    second: tuple[torch.Tensor, None]


@dataclasses.dataclass
class Answer:
    scores: torch.Tensor
    parts: Pair
    loss: torch.Tensor | None = None
    note: str = "none"


class Answers(nn.Module):
    def forward(self, x):
        return Answer(x + 1, Pair(x + 2, (x + 3, None))), torch.distributions.Normal(x, 1.0 + x.abs())


def test_objects_nested_tuples_and_none_keep_their_names():
    model = dlbridge.load(Answers(), inputs={"x": "float32[batch,3]"})
    names = [v.name for v in model.outputs]
    assert names == [
        "output_0.scores",
        "output_0.parts.first",
        "output_0.parts.second.0",
        "output_1.loc",
        "output_1.scale",
    ]
    dlbridge.convert(model, "onnx")


def test_what_holds_no_tensor_is_left_as_it_is():
    class Nothing:
        size = 3

    nothing = Nothing()
    assert plain((nothing, None, 3)) == (nothing, None, 3)


def test_the_command_line_leaves_caches_out(tmp_path):
    call = ["convert", f"{__name__}:Decoder", "--input", "ids:int64[batch,length]", "--to", "onnx", "--no-cache"]
    done = CliRunner().invoke(cli, [*call, "-o", str(tmp_path / "decoder.onnx")])
    assert done.exit_code == 0, done.output
    assert [v.name for v in dlbridge.load(tmp_path / "decoder.onnx").outputs] == ["logits"]
