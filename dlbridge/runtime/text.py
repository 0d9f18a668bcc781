"""Text to tokens and back, by a ``tokenizer.json`` beside a model and the ``tokenizers`` package."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dlbridge.errors import FileError, require

TOKENIZER_FILE = "tokenizer.json"
#: What belongs to it: other programs (onnxruntime-genai) read these beside it.
COMPANIONS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt")
#: What stands for bytes that are no character yet.
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class Tokenizer:
    """Text to tokens and back.

    Args:
        path: The file.

    Raises:
        MissingExtraError: When ``tokenizers`` is not installed.
        FileError: When the file is none of a tokenizer.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        tokenizers = require("tokenizers", "text")
        self._path = str(path)
        with self._refusals("it is no tokenizer"):
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
            # what a file says of these was meant for training: a prompt is neither cut off nor filled up
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, with those that the tokenizer puts around it.

        Raises:
            FileError: When the file does not say how.
        """
        with self._refusals("it cannot read a text"):
            return list(self._tokenizer.encode(text).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; special ones are left out.

        Raises:
            FileError: When the file does not say how.
        """
        with self._refusals("it cannot write tokens as text"):
            return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    @contextmanager
    def _refusals(self, what: str) -> Iterator[None]:
        """Errors of the package have no class of their own, and those that it did not foresee are no ``Exception``."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            raise FileError(f"{what}: {error}", where=self._path) from error

    def finished(self, tokens: Sequence[int]) -> str | None:
        """The text of tokens; None where they end within a character, whose rest the next token has."""
        text = self.decode(tokens)
        return None if text.endswith(_UNFINISHED) else text

    def pieces(self, tokens: Iterable[int]) -> Iterator[str]:
        """The text of tokens as they come: each time, what is new in the text of all."""
        seen: list[int] = []
        said = ""
        for token in tokens:
            seen.append(token)
            text = self.finished(seen)
            if text is not None:
                yield text[len(said) :]
                said = text
        rest = self.decode(seen)[len(said) :]
        if rest:
            yield rest


def find_tokenizer(path: str | os.PathLike[str]) -> Path | None:
    """The ``tokenizer.json`` of a model: in its folder, or beside its file; None if there is none."""
    path = Path(path)
    found = (path if path.is_dir() else path.parent) / TOKENIZER_FILE
    return found if found.is_file() else None
