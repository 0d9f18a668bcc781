"""``genai_config.json``: what onnxruntime-genai has to know of a decoder, so that it loads the folder as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlbridge.decoding import PAST, PRESENT, Settings
from dlbridge.frameworks.onnx.source import OnnxSource
from dlbridge.ops import traits
from dlbridge.passes.matching import static_size

FILE = "genai_config.json"
#: Where nothing says how many tokens a model is made for.
_CONTEXT = 2048


def config(source: OnnxSource, file: Path) -> dict[str, Any] | None:
    """The configuration of a model that was written to generate; None of any other, or of one part of several.

    Args:
        source: The written model.
        file: Its file, from the folder that the configuration is put into.
    """
    text = source.ir.metadata_props.get(traits.GENERATION)
    if text is None:
        return None
    settings = Settings.loads(text, source.name)
    inputs = {value.name or "": value for value in source.ir.graph.inputs}
    outputs = {value.name or "": value for value in source.ir.graph.outputs}
    count = sum(name.startswith(f"{PAST}.") for name in inputs) // 2
    caches = [inputs.get(f"{PAST}.{index}.{what}") for index in range(count) for what in ("key", "value")]
    sizes = {(static_size(value, 1), static_size(value, 3)) for value in caches}
    logits = outputs.get("logits")
    if not count or len(sizes) != 1 or logits is None or "attention_mask" not in inputs:
        return None
    ((heads, width),) = sizes
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": file.as_posix(),
        "head_size": width,
        "hidden_size": settings.width or (heads or 1) * (width or 1),
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": f"{PAST}.%d.key",
            "past_value_names": f"{PAST}.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": f"{PRESENT}.%d.key",
            "present_value_names": f"{PRESENT}.%d.value",
        },
        "num_attention_heads": settings.heads or heads,
        "num_hidden_layers": count,
        "num_key_value_heads": heads,
    }
    context = settings.context or _CONTEXT
    stop = list(settings.stop)
    model = {
        "bos_token_id": settings.begin if settings.begin is not None else 0,
        "context_length": context,
        "decoder": decoder,
        "eos_token_id": stop[0] if len(stop) == 1 else stop,
        "pad_token_id": settings.pad,
        "type": "decoder",
        "vocab_size": static_size(logits, 2),
    }
    search = {"do_sample": False, "max_length": context, "num_beams": 1, "past_present_share_buffer": False}
    return {"model": model, "search": search}
