"""What comes before and after a model, as a file says it: YAML or JSON, or these classes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dlbridge.errors import FileError

Size = Annotated[int, Field(ge=1, le=1 << 16)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Image(_Part):
    """An image (batch, height, width, channels) of bytes, of any height and width, in the place of a float input.

    It becomes ``(x * scale - mean) / std`` in the input's own layout, after it has been resized as Pillow's
    ``Image.resize`` does with antialiasing.
    """

    kind: Literal["image"] = "image"
    size: tuple[Size, Size] | None = Field(None, description="(height, width) to resize to. Default: the input's own.")
    fit: Literal["stretch", "cover"] = Field(
        "stretch", description="'cover' keeps the aspect ratio and crops the middle; 'stretch' does not keep it."
    )
    mode: Literal["nearest", "linear", "cubic"] = "linear"
    scale: float = Field(1 / 255, description="What bytes are multiplied by.")
    mean: tuple[float, ...] = Field((0.0,), description="One number for each channel, or one for all.")
    std: tuple[float, ...] = Field((1.0,), description="One number for each channel, or one for all.")
    layout: Literal["channels_first", "channels_last"] | None = Field(
        None, description="Of the model's input. Default: the axis that has 1, 3 or 4 channels."
    )


class Standardized(_Part):
    """Numbers as they were measured: they become ``(x - mean) / std`` along the last axis."""

    kind: Literal["standardized"]
    mean: tuple[float, ...] = Field(description="One number for each column, or one for all.")
    std: tuple[float, ...] = Field((1.0,), description="One number for each column, or one for all.")


class Classes(_Part):
    """Scores of classes on the last axis: further outputs hold the best of them, the best first.

    For an output ``logits``: ``logits_scores``, ``logits_classes`` (their numbers) and, where they have names,
    ``logits_labels``.
    """

    softmax: bool = Field(True, description="Whether scores are made to probabilities.")
    top: int = Field(1, ge=1, description="How many classes.")
    labels: tuple[str, ...] | None = Field(None, description="The name of each class, or a file with one a line.")


class Processing(_Part):
    """What comes before the inputs of a model, and after its outputs."""

    inputs: dict[str, Annotated[Image | Standardized, Field(discriminator="kind")]] = Field(default_factory=dict)
    outputs: dict[str, Classes] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _no_zero(self) -> Processing:
        for name, given in self.inputs.items():
            if any(number == 0 for number in given.std):
                raise ValueError(f"the standard deviation of '{name}' is 0")
        return self


def save(processing: Processing, path: str | os.PathLike[str]) -> None:
    """Write a processing as YAML, as :func:`load` reads it."""
    data = processing.model_dump(mode="json")
    Path(path).write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")


def load(path: str | os.PathLike[str]) -> Processing:
    """Read a processing from a YAML or JSON file. Files of labels lie relative to it.

    Raises:
        FileError: When the file is missing, or says something else.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Processing.model_validate(_with_labels(data, path.parent))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise FileError(f"cannot be read: {error}", where=str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise FileError(f"{place}: {first['msg']}" if place else first["msg"], where=str(path)) from None


def _with_labels(data: object, folder: Path) -> object:
    """The data, with the lines of files in the place of their names."""
    outputs = data.get("outputs") if isinstance(data, dict) else None
    for entry in outputs.values() if isinstance(outputs, dict) else ():
        if isinstance(entry, dict) and isinstance(entry.get("labels"), str):
            entry["labels"] = (folder / entry["labels"]).read_text(encoding="utf-8").splitlines()
    return data
