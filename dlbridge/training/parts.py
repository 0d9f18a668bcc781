"""What the parts of a training specification share: the base of their models, and what formulas compute on."""

from __future__ import annotations

import keyword
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, SerializerFunctionWrapHandler

#: What a framework computes formulas by: the functions of its module ``training.functions``, which are NumPy's by name.
Ops = Any
#: A tensor of a framework.
Tensor = Any


class Part(BaseModel):
    """A part of a specification: settings that are checked, and never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _is_identifier(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise ValueError("the printed code uses it as a variable, so it must be an identifier")
    return text


#: A name of the data that printed code uses as a variable.
Identifier = Annotated[str, AfterValidator(_is_identifier)]


def of_name(given: Any) -> Any:
    """The settings of a part that is given by its name alone."""
    return {"kind": given} if isinstance(given, str) else given


def by_name(part: Any, write: SerializerFunctionWrapHandler) -> Any:
    """The settings of a part, or its name where nothing else is set."""
    settings = write(part)
    return settings["kind"] if isinstance(settings, dict) and settings.keys() <= {"kind"} else settings
