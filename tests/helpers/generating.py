"""Tiny models of ``transformers`` with random weights, and what their own ``generate`` makes of prompts."""

from __future__ import annotations

from typing import Any

import torch

from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision, which transformers imports)

VOCABULARY = 48
#: Prompts of several lengths: in a batch, all but the longest are filled up at their left.
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12], [20, 21, 22]]
#: Sizes that configurations have under one name or another.
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "d_model": 16,
    "n_embd": 16,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_attention_heads": 4,
    "num_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "d_ff": 32,
    "n_inner": 32,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "d_kv": 4,
    "head_dim": 4,
    "max_position_embeddings": 96,
    "n_positions": 96,
    "max_source_positions": 12,
    "max_target_positions": 96,
    "num_mel_bins": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
    "decoder_start_token_id": 1,
    "sliding_window": None,
}


def tiny(name: str, **sizes: Any) -> torch.nn.Module:
    """A model that generates, of two layers; its weights are such that it does not say one token for ever.

    Args:
        name: What the names of its classes begin with: ``"Llama"``.
        sizes: What its configuration has beside the usual tiny sizes.
    """
    import transformers

    kind = getattr(transformers, f"{name}Config")
    known = kind().to_dict()
    config = kind(**{**{key: value for key, value in _SIZES.items() if key in known}, **sizes})
    names = [f"{name}{what}" for what in ("ForConditionalGeneration", "MTModel", "ForCausalLM", "LMHeadModel")]
    torch.manual_seed(0)
    module = next(getattr(transformers, each) for each in names if hasattr(transformers, each))(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = 2.0 / parameter.shape[-1] ** 0.5 if parameter.dim() > 1 else 0.3
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    module.generation_config.eos_token_id = None
    module.generation_config.decoder_start_token_id = 1
    return module.eval()


def features(rows: int = 2) -> torch.Tensor:
    """What the tiny Whisper hears."""
    return torch.randn(rows, 8, 24, generator=torch.Generator().manual_seed(3))


def said_by_transformers(
    module: torch.nn.Module, steps: int, prompts: list[list[int]] | None = None
) -> list[list[int]]:
    """The most probable tokens by the model's own ``generate``, without the prompts."""
    import transformers

    options = {"max_new_tokens": steps, "do_sample": False, "pad_token_id": 0}
    if module.main_input_name == "input_features":  # the loop of all models, not that of Whisper for long recordings
        heard = features()
        begun = torch.ones(len(heard), 1, dtype=torch.long)
        with torch.no_grad():
            made = transformers.GenerationMixin.generate(
                module, input_features=heard, decoder_input_ids=begun, **options
            )
        return made[:, 1:].tolist()
    prompts = prompts or PROMPTS
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    with torch.no_grad():
        made = module.generate(input_ids=ids, attention_mask=mask, **options)
    begun = 1 if module.config.is_encoder_decoder else longest
    return made[:, begun:].tolist()
