"""Tiny decoders, and encoders with decoders, of ``transformers``, through ``convert`` for the task of generating: the
same tokens as their own ``generate``, of prompts of several lengths in one batch.

``python -m tests.sweeps.test_generation [name ...] [--targets=onnx,pytorch,keras]`` prints the table.
"""

from __future__ import annotations

import sys
import time

import pytest

from tests.helpers.generating import features, said_by_transformers, tiny
from tests.sweeps.measure import TARGETS

pytest.importorskip("transformers")

import dlbridge
from dlbridge import tasks
from dlbridge.errors import DlbridgeError

#: Tokens that are generated, and the prompts: another batch and other lengths than those that the models are read with.
STEPS = 24
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12], [20, 21, 22]]
#: Family -> what its configuration has beside the usual tiny sizes.
FAMILIES: dict[str, dict] = {
    "Llama": {},
    "Mistral": {"sliding_window": 5},
    "Mixtral": {"num_local_experts": 4},
    "Qwen2": {},
    "Qwen3": {},
    "Qwen2Moe": {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    "Gemma": {},
    "Gemma2": {"sliding_window": 5},
    "Phi": {"partial_rotary_factor": 0.5},
    "Phi3": {},
    "GPT2": {},
    "GPTNeo": {"attention_types": [[["global", "local"], 1]], "window_size": 4, "num_layers": 2},
    "GPTNeoX": {},
    "GPTJ": {"rotary_dim": 4},
    "GPTBigCode": {},
    "OPT": {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "Bloom": {},
    "Falcon": {},
    "Mpt": {},
    "CodeGen": {"rotary_dim": 4},
    "CTRL": {},
    "StableLm": {},
    "Olmo": {},
    "Olmo2": {},
    "Cohere": {},
    "Granite": {},
    "Starcoder2": {"sliding_window": 5},
    "BioGpt": {},
    "XGLM": {"ffn_dim": 32, "attention_heads": 4},
    "Persimmon": {},
    "Nemotron": {},
    "Helium": {},
    "Glm": {"partial_rotary_factor": 0.5},
    "SmolLM3": {},
    "Ernie4_5": {},
    "T5": {},
    "MT5": {},
    "UMT5": {},
    "Bart": {},
    "MBart": {},
    "Marian": {},
    "Pegasus": {},
    "Blenderbot": {},
    "M2M100": {},
    "Whisper": {},
}
#: Which keep another state than keys and values that grow: they are refused, with the reason.
REFUSED = ("Mamba", "RecurrentGemma", "Rwkv", "OpenAIGPT")


def said(generator, name: str) -> list[list[int]]:
    if name == "Whisper":
        return generator.generate([[], []], max_tokens=STEPS, encoder={"input_features": features().numpy()})
    return generator.generate(PROMPTS, max_tokens=STEPS)


def measure(name: str, targets) -> list[str]:
    """What went wrong, by target; empty where the tokens are the same everywhere."""
    module = tiny(name, **FAMILIES.get(name, {}))
    wanted = said_by_transformers(module, STEPS, PROMPTS)
    wrong, cells = [], []
    for target in targets:
        start = time.time()
        try:
            found = said(tasks.generator(dlbridge.convert(module, target, task="generate")), name)
            verdict = "ok" if found == wanted else f"DIFFERS: {_first(found, wanted)}"
        except Exception as error:  # it is told, and the next target has its turn
            verdict = f"{type(error).__name__}: {error}"[:600]
        cells.append(f"{target} {verdict} ({time.time() - start:.0f}s)")
        wrong += [cells[-1]] if verdict != "ok" else []
    print(f"{name:12} tokens {len({t for row in wanted for t in row}):3}  {'  '.join(cells)}", flush=True)
    return wrong


def _first(found, wanted) -> str:
    places = [
        next((i for i, (a, b) in enumerate(zip(f, w, strict=True)) if a != b), None)
        for f, w in zip(found, wanted, strict=True)
    ]
    return f"first at {places}"


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_family(name):
    assert not measure(name, TARGETS)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_other_states_are_refused(name):
    with pytest.raises(DlbridgeError, match="cache"):
        dlbridge.load(tiny(name), task="generate")


if __name__ == "__main__":
    wanted = [a for a in sys.argv[1:] if not a.startswith("--")] or list(FAMILIES)
    chosen = next((a[10:].split(",") for a in sys.argv if a.startswith("--targets=")), TARGETS)
    for each in wanted:
        try:
            measure(each, chosen)
        except Exception as error:  # of the source
            print(f"{each:12} SOURCE  {type(error).__name__}: {str(error)[:300]}", flush=True)
