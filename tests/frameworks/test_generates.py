"""What is written for generating says the same tokens as ``generate`` of transformers, in every framework."""

from __future__ import annotations

import pytest

import dlbridge
from dlbridge import tasks
from tests.helpers.decoders import PROMPTS, features, said_by_transformers, tiny

pytest.importorskip("transformers")

STEPS = 64
#: Families, and what their configurations have beside tiny sizes.
FAMILIES = {
    "Llama": {},
    "Qwen2": {},
    "Gemma": {},
    "Phi": {"partial_rotary_factor": 0.5},
    "Mistral": {"sliding_window": 5},
    "GPT2": {},
    "T5": {},
    "Whisper": {},
}


def said_by(generator, name, steps=STEPS):
    if name == "Whisper":
        return generator.generate([[], []], max_tokens=steps, encoder={"input_features": features().numpy()})
    return generator.generate(PROMPTS, max_tokens=steps)


def check(name, targets, steps=STEPS):
    module = tiny(name, **FAMILIES[name])
    wanted = said_by_transformers(module, steps)
    assert len({token for row in wanted for token in row}) > 8  # a model that repeats itself shows little
    for target in targets:
        assert said_by(tasks.generator(dlbridge.convert(module, target, task="generate")), name, steps) == wanted


@pytest.mark.parametrize("name", ["Mistral", "GPT2"])
def test_the_same_tokens_as_transformers(name):
    check(name, ["onnx", "pytorch"])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_tokens_as_transformers_everywhere(name):
    check(name, ["onnx", "pytorch", "keras"])
