"""Tiny decoders of transformers, whose printed source is kept in ``tests/golden``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision, which transformers imports)

SMALL: Mapping[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
TOKENS = {"input_ids": "int64[batch,seq]", "attention_mask": "int64[batch,seq]"}
#: What Whisper and T5 call these sizes.
ENCODERS: Mapping[str, Any] = {"vocab_size": 128, "d_model": 64}
WHISPER: Mapping[str, Any] = {
    **{f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 2), ("attention_heads", 4))},
    **{f"{part}_ffn_dim": 96 for part in ("encoder", "decoder")},
    "num_mel_bins": 16,
    "max_source_positions": 30,
    "max_target_positions": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


@dataclass(frozen=True)
class Decoder:
    """A model.

    Attributes:
        module: Makes it, with random weights.
        inputs: Its inputs.
        helper: What stands in its printed source in place of the arithmetic of masks.
        lines: The most lines of code that are printed for PyTorch and for Keras.
    """

    module: Callable[[], torch.nn.Module]
    inputs: Mapping[str, str]
    helper: str
    lines: Mapping[str, int]


def _make(name: str, **options: Any) -> Callable[[], torch.nn.Module]:
    def made() -> torch.nn.Module:
        import transformers

        torch.manual_seed(0)
        configuration = getattr(transformers, f"{name.partition('For')[0]}Config")(**options)
        module: torch.nn.Module = getattr(transformers, name)(configuration)
        return module.eval()

    return made


_GROUPED = {**SMALL, "num_key_value_heads": 2}
_WINDOW = {**_GROUPED, "sliding_window": 4}
_GEMMA = {**_WINDOW, "head_dim": 16, "query_pre_attn_scalar": 16}
_T5 = {**ENCODERS, "d_kv": 16, "d_ff": 96, "num_layers": 3, "num_heads": 4}

DECODERS = {
    "llama": Decoder(_make("LlamaForCausalLM", **_GROUPED), TOKENS, "visible_keys(", {"pytorch": 92, "keras": 100}),
    "mistral": Decoder(_make("MistralForCausalLM", **_WINDOW), TOKENS, "window=4)", {"pytorch": 94, "keras": 102}),
    "gemma2": Decoder(_make("Gemma2ForCausalLM", **_GEMMA), TOKENS, "softcap=50.0", {"pytorch": 126, "keras": 156}),
    "t5": Decoder(
        _make("T5ForConditionalGeneration", **_T5),
        {**TOKENS, "decoder_input_ids": "int64[batch,out]"},
        "visible_keys(",
        {"pytorch": 307, "keras": 384},
    ),
    "whisper": Decoder(
        _make("WhisperForConditionalGeneration", **ENCODERS, **WHISPER),
        {"input_features": "float32[batch,16,60]", "decoder_input_ids": "int64[batch,out]"},
        "is_causal=True",
        {"pytorch": 144, "keras": 187},
    ),
}
