"""What a model that generates text is read for, and its settings: its special tokens, and its sizes.

This module imports nothing but the standard library and the errors: the runtime reads it too.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from dlbridge.errors import DlbridgeError, suggest

#: What a model may be read for.
Task = Literal["generate", "encode", "decode"]

#: Key of a graph's metadata, and of a file's, that holds it as JSON.
METADATA_KEY = "dlbridge.generation"
#: What caches are called among the inputs, and what they have become among the outputs.
PAST, PRESENT = "past_key_values", "present"
#: The folders of an encoder and its decoder beside each other.
ENCODER, DECODER = "encoder", "decoder"
#: More tokens of a kind than these are in no model.
_MOST = 4096


@dataclass(frozen=True)
class Settings:
    """The special tokens of a model, and sizes that its graph does not show.

    Attributes:
        stop: The tokens that end a text.
        pad: What fills up short rows.
        start: What the decoder of a model with an encoder begins with.
        suppress: Tokens that are never chosen.
        suppress_first: Tokens that are not chosen first.
        first: The token that is always the first, as the language that a translator writes.
        last: The token that is the last where a text is cut off.
        begin: The token that a text begins with.
        context: How many tokens it is made for.
        heads, width: Its heads of attention, and the size of what is between its layers.
    """

    stop: tuple[int, ...] = ()
    pad: int = 0
    start: int | None = None
    suppress: tuple[int, ...] = ()
    suppress_first: tuple[int, ...] = ()
    first: int | None = None
    last: int | None = None
    begin: int | None = None
    context: int | None = None
    heads: int | None = None
    width: int | None = None

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str, where: str | None = None) -> Settings:
        """From JSON, which may be of a file.

        Raises:
            DlbridgeError: When it is something else.
        """
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        known = {field.name: field.default for field in fields(cls)}
        if not isinstance(found, dict) or not found.keys() <= known.keys():
            raise DlbridgeError(f"its '{METADATA_KEY}' says no special tokens", where=where)
        values: dict[str, Any] = {}
        for name, value in found.items():
            is_one = not isinstance(known[name], tuple)
            tokens = [value] if is_one else value
            if is_one and value is None:
                tokens = []
            if not isinstance(tokens, list) or len(tokens) > _MOST or not all(_is_token(t) for t in tokens):
                raise DlbridgeError(f"'{name}' in its '{METADATA_KEY}' is no token", where=where)
            values[name] = value if is_one else tuple(tokens)
        if values.get("pad", 0) is None:
            values["pad"] = 0
        return cls(**values)


def first_size(config: object, *names: str) -> int | None:
    """The first of these sizes that the configuration of a model has; None where it has none."""
    found = (getattr(config, name, None) for name in names)
    return next((int(size) for size in found if isinstance(size, int) and size > 0), None)


def check_task(name: str) -> None:
    """Raise a ``DlbridgeError`` when there is no such task."""
    if name not in get_args(Task):
        raise DlbridgeError(f"there is no task '{name}'", hint=suggest(name, get_args(Task)) or "it is 'generate'")


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
