"""Tiny configurations of the architectures of ``transformers``, as their owners have them: PyTorch -> ONNX, Keras, PyTorch.

Sizes apart, the settings are the defaults: decoders return their caches, attention is the library's choice.

``python -m tests.sweeps.test_transformers [name ...]`` prints the table.
"""

from __future__ import annotations

import pytest
import torch

from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision, which transformers imports)

transformers = pytest.importorskip("transformers")

from tests.sweeps.measure import measure, randomised, table

VOCABULARY = 99
#: Names of the same size in the configurations, and the tiny value.
TINY = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "dim": 32,
    "embedding_size": 32,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_decoder_layers": 2,
    "num_attention_heads": 4,
    "num_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "d_ff": 64,
    "d_kv": 8,
    "head_dim": 8,
    "n_inner": 64,
    "ffn_dim": 64,
    "hidden_dim": 64,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "n_positions": 64,
    "rotary_dim": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "image_size": 32,
    "patch_size": 8,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "attention_types": [[["global", "local"], 1]],
    "block_size": 16,
    "max_source_positions": 32,
    "max_target_positions": 32,
    "num_mel_bins": 16,
    "decoder_start_token_id": 1,
    "window_size": 4,
}

TEXT = ["input_ids", "attention_mask"]
BOTH = ["input_ids", "attention_mask", "decoder_input_ids"]
ENCODERS = [
    "Bert",
    "Roberta",
    "Albert",
    "DistilBert",
    "Electra",
    "MPNet",
    "MobileBert",
    "Deberta",
    "DebertaV2",
    "SqueezeBert",
    "ConvBert",
    "Nystromformer",
    "RoFormer",
    "XLMRoberta",
    "Camembert",
    "Ernie",
    "FNet",
    "Longformer",
    "BigBird",
    "XLM",
    "Flaubert",
    "MegatronBert",
    "RemBert",
    "LayoutLM",
    "Splinter",
    "ModernBert",
    "NomicBert",
    "Esm",
    "Yoso",
    "Funnel",
    "IBert",
    "MarkupLM",
]
DECODERS = [
    "GPT2",
    "GPTNeo",
    "GPTNeoX",
    "GPTJ",
    "Llama",
    "Mistral",
    "Mixtral",
    "Qwen2",
    "Qwen3",
    "Qwen2Moe",
    "Qwen3Moe",
    "Gemma",
    "Gemma2",
    "Phi",
    "Phi3",
    "OPT",
    "Bloom",
    "Falcon",
    "Mpt",
    "CodeGen",
    "StableLm",
    "Olmo",
    "Olmo2",
    "Cohere",
    "Granite",
    "Starcoder2",
    "BioGpt",
    "CTRL",
    "OpenAIGPT",
    "XGLM",
    "Persimmon",
    "Nemotron",
    "Mamba",
    "Mamba2",
    "RecurrentGemma",
    "Rwkv",
    "GPTBigCode",
    "Helium",
    "Glm",
    "SmolLM3",
    "Ernie4_5",
    "JetMoe",
]
SEQ2SEQ = [
    "T5",
    "MT5",
    "Bart",
    "MBart",
    "Pegasus",
    "Marian",
    "Blenderbot",
    "BlenderbotSmall",
    "PLBart",
    "M2M100",
    "LED",
    "ProphetNet",
    "LongT5",
    "UMT5",
]
VISION = [
    "ViT",
    "DeiT",
    "Beit",
    "Swin",
    "Swinv2",
    "ConvNext",
    "ConvNextV2",
    "Dinov2",
    "ResNet",
    "RegNet",
    "MobileNetV1",
    "MobileNetV2",
    "MobileViT",
    "PoolFormer",
    "Segformer",
    "Cvt",
    "PvtV2",
    "Pvt",
    "Bit",
    "FocalNet",
    "ViTMAE",
    "ViTMSN",
    "Hiera",
    "Data2VecVision",
    "DPT",
    "GLPN",
    "Dinov2WithRegisters",
    "SwiftFormer",
    "VitDet",
    "TimmWrapper",
    "Yolos",
]
AUDIO = ["Whisper", "Wav2Vec2", "Hubert", "WavLM", "UniSpeech", "SEW"]
MULTI = ["CLIP", "SigLIP", "Blip", "ChineseCLIP", "AltCLIP", "GroupViT"]


def _configuration(name: str):
    cls = getattr(transformers, f"{name}Config")
    config = cls()
    known = {
        k: v
        for k, v in TINY.items()
        if k in config.to_dict() and (type(getattr(config, k)) is type(v) or getattr(config, k) is None)
    }
    special = SPECIAL.get(name, {})
    return cls(**{k: v for k, v in {**known, **special}.items() if v is not ...})


SPECIAL = {
    "Albert": {"embedding_size": 16},
    "DistilBert": {"dim": 32},
    "MobileBert": {
        "embedding_size": 32,
        "intra_bottleneck_size": 32,
        "true_hidden_size": 32,
        "num_feedforward_networks": 2,
    },
    "Mamba": {"state_size": 4, "time_step_rank": 4, "num_heads": ...},
    "Mamba2": {"state_size": 4, "num_heads": 8, "head_dim": 8, "expand": 2, "n_groups": 2, "chunk_size": 8},
    "Longformer": {"attention_window": 4},
    "BigBird": {"attention_type": "original_full"},
    "Esm": {"position_embedding_type": "rotary"},
    "Rwkv": {"attention_hidden_size": 32},
    "RecurrentGemma": {"num_hidden_layers": 3},  # the third is the first with attention
    "CodeGen": {"n_ctx": 64},
    "Swin": {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "patch_size": 2, "window_size": 4},
    "Swinv2": {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "patch_size": 2, "window_size": 4},
    "ConvNext": {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "patch_size": 4},
    "ConvNextV2": {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "patch_size": 4},
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2]},
    "RegNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "groups_width": 4},
    "MobileViT": {"hidden_sizes": [16, 16, 16], "neck_hidden_sizes": [8, 8, 8, 8, 16, 16, 16], "patch_size": 2},
    "PoolFormer": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "patch_size": 7},
    "Segformer": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
    "PvtV2": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
    "Pvt": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
    "FocalNet": {"embed_dim": 8, "depths": [1, 1], "focal_levels": [1, 1], "focal_windows": [3, 3], "patch_size": 4},
    "Hiera": {
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "masked_unit_size": [4, 4],
        "patch_size": [3, 3],
        "patch_stride": [4, 4],
        "patch_padding": [1, 1],
        "query_stride": [2, 2],
        "num_query_pool": 1,
    },
    "Bit": {},
    "Whisper": {"max_source_positions": 16},
    "GPTNeo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "Deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
}


def _ids(batch: int, length: int, seed: int) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def _text(batch: int, length: int, *, masked: bool = True) -> dict[str, torch.Tensor]:
    mask = torch.ones(batch, length, dtype=torch.long)
    if masked:
        mask[0, -2:] = 0
    return {"input_ids": _ids(batch, length, batch), "attention_mask": mask}


#: Which take images of any size.
FREE_SIZES = ("ConvNext", "ConvNextV2", "ResNet", "RegNet", "Segformer", "PvtV2", "Bit")
#: Whose code fixes the length of the example.
UNROLLED = ("Mamba", "RecurrentGemma", "Rwkv", "Funnel")


def build(name: str):
    """(module, example inputs, fresh inputs of another batch and length)."""
    torch.manual_seed(0)
    config = _configuration(name)
    lengths = (
        ((2, 16), (3, 24)) if name in ("Longformer", "BigBird", "LED", "Nystromformer", "Funnel") else ((2, 9), (3, 12))
    )
    axes = {0: "batch", 1: "length"}
    if name in UNROLLED:  # the code loops over the length, which torch.export writes out
        axes, lengths = {0: "batch"}, (lengths[0], (lengths[1][0], lengths[0][1]))
    dynamic = {"input_ids": axes, "attention_mask": axes}
    if name in ENCODERS or name in DECODERS or name in MULTI or name in SEQ2SEQ:
        model = _made(name, config)
        example, fresh = (_text(*size) for size in lengths)
        if name in SEQ2SEQ:
            for inputs, seed in ((example, 5), (fresh, 6)):
                inputs["decoder_input_ids"] = _ids(inputs["input_ids"].shape[0], 7 if seed == 5 else 5, seed)
            dynamic["decoder_input_ids"] = {0: "batch", 1: "decoder_length"}
        if name in ("Rwkv", "FNet"):
            example.pop("attention_mask"), fresh.pop("attention_mask"), dynamic.pop("attention_mask")
        return model, example, fresh, dynamic
    if name in VISION:
        model = _made(name, config)
        size = getattr(config, "image_size", 32)
        size = size[0] if isinstance(size, (list, tuple)) else size
        size = (
            64
            if name
            in (
                "MobileNetV1",
                "MobileNetV2",
                "EfficientNet",
                "ResNet",
                "RegNet",
                "Segformer",
                "PoolFormer",
                "ConvNext",
                "ConvNextV2",
                "Bit",
            )
            else size
        )
        example, fresh = ({"pixel_values": torch.randn(n, 3, size, size)} for n in (2, 3))
        axes = {0: "batch"}
        if name in FREE_SIZES:
            axes, fresh = {0: "batch", 2: "height", 3: "width"}, {"pixel_values": torch.randn(3, 3, 96, 160)}
        return model, example, fresh, {"pixel_values": axes}
    model = _made(name, config)
    if name in ("Whisper", "Speech2Text"):
        frames = 32
        example, fresh = (
            {"input_features": torch.randn(n, 16, frames), "decoder_input_ids": _ids(n, t, n)}
            for n, t in ((2, 5), (3, 7))
        )
        return (
            model,
            example,
            fresh,
            {"input_features": {0: "batch"}, "decoder_input_ids": {0: "batch", 1: "length"}},
        )
    axes, samples = {0: "batch", 1: "samples"}, (4000, 5000)
    if name == "SEW":  # the code fills up where the frames are odd
        axes, samples = {0: "batch"}, (4000, 4000)
    example, fresh = ({"input_values": torch.randn(n, size)} for n, size in zip((2, 3), samples, strict=True))
    return model, example, fresh, {"input_values": axes}


def _made(name: str, config):
    return randomised(getattr(transformers, f"{name}Model")._from_config(config))


ALL = [*ENCODERS, *DECODERS, *SEQ2SEQ, *VISION, *AUDIO]
#: Which torch.export cannot export (it says where), and what draws random numbers at inference.
REFUSED = {"Longformer": "torch.export cannot", "LED": "torch.export cannot", "ViTMAE": "random numbers"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_architecture(name):
    module, example, fresh, dynamic = build(name)
    row = measure(name, module, example, fresh, dynamic=dynamic)
    print(row)
    if name in REFUSED:
        assert REFUSED[name] in row.failures["read"]
    else:
        assert row.passed, str(row)


if __name__ == "__main__":
    table(ALL, build)
