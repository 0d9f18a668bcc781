"""Opens a folder that a Hugging Face model was saved to: ``config.json`` beside safetensors, one file or several.

The class is the one that ``architectures`` names, of the installed ``transformers``. Nothing is downloaded, and code
that lies in the folder runs only if the user says so.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dlbridge.errors import DlbridgeWarning, FileError, SignatureError, WeightsError, require, suggest
from dlbridge.frameworks.inputs import parse_input
from dlbridge.frameworks.pytorch.arrays import dtype_name
from dlbridge.frameworks.pytorch.files.folders import CONFIG

_LISTED = 8


def load(path: Path, *, trust_code: bool = False) -> torch.nn.Module:
    """The model in a folder, with its weights, in eval mode.

    Args:
        path: The folder.
        trust_code: Allow the Python code of a model that lies in the folder.

    Raises:
        MissingExtraError: When transformers is not installed.
        FileError: When the folder says no class, one that transformers does not have, or it cannot be loaded.
        WeightsError: When the folder does not have all of the model's weights.
    """
    where = str(path)
    config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    transformers = require("transformers", "")
    kind = _class(transformers, config, where, trust_code)
    has_safetensors = any(path.glob("*.safetensors"))
    model, found = kind.from_pretrained(
        path,
        local_files_only=True,
        trust_remote_code=trust_code,
        use_safetensors=True if has_safetensors else None,
        output_loading_info=True,
    )
    _check_weights(found, where)
    return model.eval()


def _class(transformers: Any, config: Mapping[str, Any], where: str, trust_code: bool) -> Any:
    """The class of the model that a configuration describes."""
    names = config.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        hint = 'add it to config.json, e.g. "architectures": ["BertForSequenceClassification"]'
        raise FileError("its config.json names no single class under 'architectures'", where=where, hint=hint)
    name = names[0]
    own = config.get("auto_map")
    code = [auto for auto, place in own.items() if str(place).endswith(f".{name}")] if isinstance(own, dict) else []
    if code and trust_code:
        return getattr(transformers, code[0])
    found = _imported(transformers, name, where) if name.isidentifier() and not name.startswith("_") else None
    if isinstance(found, type) and issubclass(found, torch.nn.Module):
        return found
    if code:
        raise FileError(
            f"{name} is Python code that lies in the folder, which is not run",
            where=where,
            hint="if you trust who made it: --trust-code (trust_code=True)",
        )
    hint = suggest(name, dir(transformers)) or f"transformers is {transformers.__version__}; a newer one may have it"
    raise FileError(f"transformers has no model {name}", where=where, hint=hint)


def _imported(transformers: Any, name: str, where: str) -> Any:
    """A class of transformers, which imports its module now; None if there is none of that name.

    Raises:
        FileError: When the module cannot be imported, as where torch and torchvision are of different builds.
    """
    try:
        return getattr(transformers, name, None)
    except ImportError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise FileError(
            f"transformers cannot import {name}: {cause}",
            where=where,
            hint=f"try it in Python: from transformers import {name}",
        ) from error


def _check_weights(found: Mapping[str, Any], where: str) -> None:
    """Refuse a model some of whose weights were made up, and tell of weights that were not used."""
    missing = sorted(str(name) for name in found.get("missing_keys", ()))
    if missing:
        more = f", and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        raise WeightsError(
            f"the folder does not have all weights of the model; missing: {', '.join(missing[:_LISTED])}{more}",
            where=where,
            hint="the class under 'architectures' in config.json must be the one that was saved",
        )
    unused = sorted(str(name) for name in found.get("unexpected_keys", ()))
    if unused:
        text = f"{where}: weights that the model does not have are left out: {', '.join(unused[:_LISTED])}"
        warnings.warn(text, DlbridgeWarning, stacklevel=3)


# --- inputs -----------------------------------------------------------------------------------------------------------


def with_inputs(model: torch.nn.Module, given: Any) -> Any:
    """The inputs to read a model with: the user's, which need not say dtypes, else those that it is made for.

    Raises:
        SignatureError: When the user gives none and the model's are not known.
    """
    known = known_inputs(model)
    if given is None:
        main = str(getattr(model, "main_input_name", "input_ids"))
        if main not in known:
            raise SignatureError(
                f"the sizes of its input '{main}' are not known",
                where=type(model).__name__,
                hint=f"say them: --input '{main}:float32[batch,...]'",
            )
        return known
    if not isinstance(given, Mapping):
        return given
    return {name: _with_dtype(name, text, known) for name, text in given.items()}


def _with_dtype(name: str, text: Any, known: Mapping[str, str]) -> Any:
    if not isinstance(text, str) or name not in known:
        return text
    return str(parse_input(text, f"input {name}").with_dtype(parse_input(known[name], name).dtype))


def known_inputs(model: torch.nn.Module) -> dict[str, str]:
    """Inputs of a model by name, in the order of its parameters; those whose sizes its configuration does not say are
    left out."""
    config: Any = model.config
    real = dtype_name(getattr(model, "dtype", torch.float32))
    found: dict[str, str | None] = {
        "input_ids": "int64[batch,seq]",
        "pixel_values": _image(config, real),
        "input_values": f"{real}[batch,4000<=samples]",
        "input_features": _features(config, real),
    }
    main = str(getattr(model, "main_input_name", "input_ids"))
    modalities = getattr(model, "input_modalities", ())
    taken = {main}
    if main == "input_ids":
        found["attention_mask"] = "int64[batch,seq]"
        taken.add("attention_mask")
        if "image" in ([modalities] if isinstance(modalities, str) else modalities):
            taken.add("pixel_values")
    if getattr(config, "is_encoder_decoder", False):
        found["decoder_input_ids"] = "int64[batch,out]"
        taken.add("decoder_input_ids")
    parameters = inspect.signature(model.forward).parameters
    return {name: text for name in parameters if name in taken and (text := found.get(name)) is not None}


def _image(config: Any, dtype: str) -> str | None:
    """Images of the size that a configuration says; positions are learned for that size."""
    config = getattr(config, "vision_config", config)
    size, channels = getattr(config, "image_size", None), getattr(config, "num_channels", 3)
    if isinstance(size, int):
        size = (size, size)
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        return None
    return f"{dtype}[batch,{channels},{size[0]},{size[1]}]"


def _features(config: Any, dtype: str) -> str | None:
    """The spectrograms of speech models that take as many frames as they have positions for."""
    bins, positions = getattr(config, "num_mel_bins", None), getattr(config, "max_source_positions", None)
    if not isinstance(bins, int) or not isinstance(positions, int) or config.model_type != "whisper":
        return None
    return f"{dtype}[batch,{bins},{2 * positions}]"
