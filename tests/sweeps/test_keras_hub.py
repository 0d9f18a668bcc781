"""Backbones and tasks of keras_hub, live and in small configurations: Keras -> PyTorch, ONNX, Keras; the tokens of those
that generate.

Nothing is downloaded, and no tokenizer is made. ``python -m tests.sweeps.test_keras_hub [name ...]`` prints the table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dlbridge
from dlbridge import tasks

TARGETS = ("pytorch", "onnx", "keras")
_TEXT = {"vocabulary_size": 50, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}
_POSITIONS = {**_TEXT, "max_sequence_length": 16}
_DECODER = {
    "vocabulary_size": 50,
    "num_layers": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
}
_RESNET: dict[str, Any] = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "block_type": "basic_block",
    "stackwise_num_filters": [64, 16],
    "stackwise_num_blocks": [1, 1],
    "stackwise_num_strides": [1, 2],
    "image_shape": (None, None, 3),
}
_VIT = {"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
_CLIP: dict[str, Any] = {
    "patch_size": 8,
    "hidden_dim": 16,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_dim": 32,
    "image_shape": (32, 32, 3),
}


def _made(name: str, **options: Any) -> Any:
    import keras_hub

    return getattr(keras_hub.models, name)(**options)


MODELS: dict[str, Callable[[], Any]] = {
    "BERT": lambda: _made("BertBackbone", **_POSITIONS),
    "GPT-2": lambda: _made("GPT2Backbone", **_POSITIONS),
    "Llama": lambda: _made("LlamaBackbone", **_DECODER),
    "Mistral": lambda: _made("MistralBackbone", **_DECODER),
    "Gemma": lambda: _made("GemmaBackbone", **_DECODER, head_dim=4),
    "ResNet": lambda: _made("ResNetBackbone", **_RESNET),
    "ViT": lambda: _made("ViTBackbone", **_VIT),
    "DistilBERT": lambda: _made("DistilBertBackbone", **_POSITIONS),
    "RoBERTa": lambda: _made("RobertaBackbone", **_POSITIONS),
    "ALBERT": lambda: _made("AlbertBackbone", **_POSITIONS, embedding_dim=8),
    "DeBERTa": lambda: _made("DebertaV3Backbone", **_POSITIONS),
    "T5": lambda: _made("T5Backbone", **_TEXT),
    "BART": lambda: _made("BartBackbone", **_POSITIONS),
    "Whisper": lambda: _made(
        "WhisperBackbone", **_TEXT, num_mels=8, max_encoder_sequence_length=20, max_decoder_sequence_length=16
    ),
    "CLIP's vision encoder": lambda: _made("CLIPVisionEncoder", **_CLIP),
    "BERT that classifies": lambda: _made(
        "BertTextClassifier", backbone=MODELS["BERT"](), num_classes=3, preprocessor=None
    ),
    "GPT-2 that predicts": lambda: _made("GPT2CausalLM", backbone=MODELS["GPT-2"](), preprocessor=None),
    "ResNet that classifies": lambda: _made(
        "ImageClassifier", backbone=MODELS["ResNet"](), num_classes=4, preprocessor=None
    ),
    "ViT that classifies": lambda: _made(
        "ViTImageClassifier", backbone=MODELS["ViT"](), num_classes=4, preprocessor=None
    ),
}


_FALCON = {"num_attention_heads": 2, **{key: size for key, size in _TEXT.items() if key != "num_heads"}}
#: Family -> what the configuration of its backbone has.
GENERATING: dict[str, dict[str, Any]] = {
    "Llama": _DECODER,
    "Mistral": {**_DECODER, "sliding_window": 5},
    "Gemma": {**_DECODER, "head_dim": 4},
    "Phi3": _DECODER,
    "GPT2": {**_TEXT, "max_sequence_length": 32},
    "OPT": {**_TEXT, "max_sequence_length": 32},
    "Bloom": _TEXT,
    "Falcon": _FALCON,
}
#: Tokens that are generated, of prompts of several lengths.
STEPS = 12
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12], [20, 21, 22]]


def generating(name: str) -> Any:
    """A causal language model whose weights are such that it does not say one token for ever."""
    import keras

    keras.utils.set_random_seed(0)
    model = _made(f"{name}CausalLM", backbone=_made(f"{name}Backbone", **GENERATING[name]), preprocessor=None)
    numbers = np.random.default_rng(1)
    for weight in model.weights:
        scale = 2.0 / weight.shape[-1] ** 0.5 if len(weight.shape) > 1 else 0.3
        weight.assign(np.asarray(weight) + numbers.standard_normal(weight.shape) * scale)
    return model


def said_by_keras_hub(model: Any) -> list[list[int]]:
    """The most probable tokens by the model's own ``generate``, of each prompt alone."""
    model.compile(sampler="greedy", run_eagerly=True)
    found = []
    for prompt in PROMPTS:
        ids = np.zeros((1, len(prompt) + STEPS), "int32")
        ids[0, : len(prompt)] = prompt
        given = {"token_ids": ids, "padding_mask": np.arange(ids.shape[1])[None] < len(prompt)}
        made = model.generate(given, stop_token_ids=None)["token_ids"]
        found.append(np.asarray(made)[0, len(prompt) :].tolist())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", GENERATING)
def test_the_same_tokens_as_keras_hub(name, target):
    pytest.importorskip("keras_hub")
    model = generating(name)
    written = dlbridge.convert(model, target, task="generate")
    assert tasks.generator(written).generate(PROMPTS, max_tokens=STEPS) == said_by_keras_hub(model)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_model(name, target):
    pytest.importorskip("keras_hub")
    dlbridge.convert(dlbridge.load(MODELS[name]()), target)  # raises where it does not agree with the original


def _table(names: list[str]) -> None:
    for name in names or MODELS:
        for target in TARGETS:
            try:
                dlbridge.convert(dlbridge.load(MODELS[name]()), target)
                print(f"{name:26} {target:8} ok", flush=True)
            except Exception as error:  # it is told, and the next has its turn
                print(f"{name:26} {target:8} {type(error).__name__}: {str(error)[:700]}", flush=True)


if __name__ == "__main__":
    _table(sys.argv[1:])
