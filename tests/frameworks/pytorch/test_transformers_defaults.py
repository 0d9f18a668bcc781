"""A decoder of ``transformers`` as its owner has it: the settings are the defaults, the sizes are named."""

from __future__ import annotations

import pytest
import torch

import dlbridge
from dlbridge import frameworks
from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision, which transformers imports)

transformers = pytest.importorskip("transformers")


def test_llama_with_its_mask_and_its_cache():
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    module = transformers.LlamaForCausalLM(config).eval()
    sizes = "int64[batch,seq]"
    model = dlbridge.load(module, inputs={"input_ids": sizes, "attention_mask": sizes})
    feeds = {"input_ids": torch.randint(3, 50, (3, 11)), "attention_mask": torch.ones(3, 11, dtype=torch.long)}
    feeds["attention_mask"][0, :4] = 0
    with torch.no_grad():
        wanted = module(**feeds, return_dict=False)
    for target in ("pytorch", "onnx"):
        framework = frameworks.get(target)
        live = framework.load(dlbridge.convert(model, target))
        found = framework.run(live, {name: tensor.numpy() for name, tensor in feeds.items()})
        logits, *cache = found
        assert logits == "logits" and [name.partition(".")[2] for name in cache] == ["0.key", "0.value"]
        torch.testing.assert_close(torch.from_numpy(found[logits]), wanted[0], atol=1e-5, rtol=1e-4)
