"""Writes ``docs/gallery.md``: models of libraries as they are printed, beside the blocks that they were read from.

``python -m tests.sweeps.gallery docs/gallery.md [NAME ...]``
"""

from __future__ import annotations

import inspect
import logging
import re
import sys
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import dlbridge
from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision, which others import)

_IMAGE, _WORDS = {"x": "float32[batch,3,64,64]"}, {"input_ids": "int64[batch,length]"}


@dataclass
class Shown:
    """A model of the gallery.

    Attributes:
        library: Where the original is.
        make: Makes (the module, its inputs, the class whose ``forward`` is shown).
    """

    library: str
    make: Callable[[], tuple[torch.nn.Module, dict[str, str], type]]


def _transformer(kind: str, block: str, inputs: dict[str, str] = _WORDS, **config: Any) -> Shown:
    def make() -> tuple[torch.nn.Module, dict[str, str], type]:
        import transformers

        model = getattr(transformers, kind)
        made = model(model.config_class(**config))
        return made, inputs, next(type(m) for m in made.modules() if type(m).__name__ == block)

    return Shown("transformers", make)


def _vision(name: str, block: str) -> Shown:
    def make() -> tuple[torch.nn.Module, dict[str, str], type]:
        import torchvision

        made = getattr(torchvision.models, name)()
        return made, _IMAGE, next(type(m) for m in made.modules() if type(m).__name__ == block)

    return Shown("torchvision", make)


def _plain(name: str, block: str, inputs: dict[str, str]) -> Shown:
    def make() -> tuple[torch.nn.Module, dict[str, str], type]:
        from tests.sweeps import plain_models

        return getattr(plain_models, name)(), inputs, getattr(plain_models, block)

    return Shown("tests/sweeps/plain_models.py", make)


def _unet() -> tuple[torch.nn.Module, dict[str, str], type]:
    import segmentation_models_pytorch as smp

    made = smp.Unet("resnet18", encoder_weights=None)
    return made, _IMAGE, next(type(m) for m in made.modules() if type(m).__name__ == "UnetDecoderBlock")


def _diffusion() -> tuple[torch.nn.Module, dict[str, str], type]:
    from diffusers import UNet2DModel
    from diffusers.models.resnet import ResnetBlock2D

    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    made = UNet2DModel(sample_size=32, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, **blocks)
    return made, {"sample": "float32[batch,3,32,32]", "timestep": "int64[batch]"}, ResnetBlock2D


def _vit() -> tuple[torch.nn.Module, dict[str, str], type]:
    from vit_pytorch import vit

    made = vit.ViT(image_size=64, patch_size=16, num_classes=10, dim=64, depth=4, heads=4, mlp_dim=128)
    return made, {"img": "float32[batch,3,64,64]"}, vit.Attention


_SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 99,
}
MODELS = {
    "ResNet-18": _vision("resnet18", "BasicBlock"),
    "ConvNeXt": _vision("convnext_tiny", "CNBlock"),
    "U-Net": Shown("segmentation-models-pytorch", _unet),
    "ViT": Shown("vit-pytorch", _vit),
    "BERT": _transformer("BertModel", "BertSelfAttention", **_SMALL),
    "Llama": _transformer("LlamaModel", "LlamaDecoderLayer", **_SMALL, num_key_value_heads=2, use_cache=False),
    "T5": _transformer(
        "T5EncoderModel", "T5LayerFF", d_model=64, d_kv=16, d_ff=128, num_layers=4, num_heads=4, vocab_size=99
    ),
    "Whisper": _transformer(
        "WhisperForAudioClassification",
        "WhisperEncoderLayer",
        {"input_features": "float32[batch,80,200]"},
        d_model=64,
        encoder_layers=4,
        encoder_attention_heads=4,
        encoder_ffn_dim=128,
        max_source_positions=100,
        decoder_layers=1,
        vocab_size=99,
        pad_token_id=0,
    ),
    "MobileNet": _vision("mobilenet_v3_small", "InvertedResidual"),
    "YOLO": _plain("YOLO", "C2f", {"images": "float32[batch,3,h,w]"}),
    "DLRM": _plain("DLRM", "DLRM", {"dense": "float32[batch,13]", "sparse": "int64[batch,3,4]"}),
    "Diffusion U-Net": Shown("diffusers", _diffusion),
}


def section(name: str, shown: Shown) -> str:
    """The section of one model."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, inputs, block = shown.make()
        source = dlbridge.load(module.eval(), inputs=inputs).write("pytorch")
    original = textwrap.dedent(inspect.getsource(block.forward))
    original = re.sub(r'\n *r?"""(?:.|\n)*?"""', "", original, count=1)
    count = len(source.text.splitlines())
    return "\n".join(
        [
            f"## {name}",
            "",
            f"`{type(module).__name__}` of {shown.library}; `forward` of its `{block.__name__}`:",
            "",
            "```python",
            original.rstrip(),
            "```",
            "",
            f"The whole model as dlbridge prints it, {count} lines:",
            "",
            "```python",
            source.text.rstrip(),
            "```",
            "",
        ]
    )


def main(target: str, *names: str) -> None:
    """Write the page; with names, print these sections alone."""
    logging.disable(logging.WARNING)
    sections = []
    for name in names or MODELS:
        print(name, flush=True)
        sections.append(section(name, MODELS[name]))
    if names:
        print("\n".join(sections))
        return
    head = "# Gallery\n\nModels of libraries, as PyTorch code that was printed from them, beside a part of the code that they were read from.\n"
    made = "Generated by `make gallery`; the sizes are small where that does not change the code.\n"
    Path(target).write_text(f"{head}{made}\n" + "\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
