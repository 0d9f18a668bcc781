"""Every error that a user can meet: what was wrong, where in the user's model, what to do."""

from __future__ import annotations

import difflib
import importlib
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "DescriptionError",
    "DlbridgeError",
    "DlbridgeWarning",
    "FileError",
    "IllConditionedError",
    "MissingExtraError",
    "MissingKernelError",
    "ProviderError",
    "ShapeError",
    "SignatureError",
    "TrainingError",
    "UnsupportedOpError",
    "VerificationError",
    "WeightsError",
    "WrittenModelError",
    "from_parts",
    "printable",
    "require",
    "suggest",
    "warn_of_squeeze",
]


class DlbridgeError(Exception):
    """Base of all errors that dlbridge raises on purpose.

    Args:
        message: What was wrong, one sentence.
        where: Where in the user's model or files (``model.yaml:12``, ``layer1.0.conv1``).
        hint: What to do about it.
    """

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        return printable(f"{head}\n  {self.hint}" if self.hint else head)

    def parts(self) -> list[str | None]:
        """The error in parts, for another process: :func:`from_parts` makes it again."""
        return [type(self).__name__, self.message, self.where, self.hint]


class DescriptionError(DlbridgeError):
    """A description (YAML or JSON) says something that has no meaning."""


class ShapeError(DlbridgeError):
    """Two shapes or dtypes do not fit together."""


class SignatureError(DlbridgeError):
    """Data given to a model does not fit the model's inputs."""


class WeightsError(DlbridgeError):
    """A weights file is missing, broken, or of another shape than the model."""


class FileError(DlbridgeError):
    """A file is missing, broken, hostile, or would be overwritten."""


class MissingKernelError(FileError):
    """A model that is valid, but the runtime here has no kernel for one of its ops in its type."""


class UnsupportedOpError(DlbridgeError):
    """One or more ops have no rule. The message lists all of them."""


class MissingExtraError(DlbridgeError):
    """A framework or library that an extra brings is not installed."""


class ProviderError(DlbridgeError):
    """An execution provider was asked for and is not there."""


class VerificationError(DlbridgeError):
    """A route departs from the judge by more than rounding explains."""


class WrittenModelError(VerificationError):
    """A written model cannot be built, loaded or run."""


class IllConditionedError(VerificationError):
    """Rounding alone moves a model's outputs so far that agreement can neither be shown nor refuted."""


class DlbridgeWarning(UserWarning):
    """Something of a model is not kept, and does not matter at inference."""


def warn_of_squeeze(where: str, size: str) -> None:
    """Warn that a squeeze takes an axis away for some inputs alone, those in which its size is 1."""
    warnings.warn(
        f"{where}: squeeze takes the axis '{size}' away too where it is 1; what is written keeps it, and is right for "
        "other sizes alone\n  a squeeze of the axes that are always 1, by their numbers, is the same for all sizes",
        DlbridgeWarning,
        stacklevel=3,
    )


class TrainingError(DlbridgeError):
    """A training specification or its data cannot be used."""


def from_parts(parts: Sequence[str | None]) -> DlbridgeError:
    """The error that another process has raised, of what its ``parts`` said."""
    kind, message, where, hint = parts
    made: DlbridgeError = globals().get(kind or "", DlbridgeError)(message or "", where=where, hint=hint)
    return made


def printable(text: str) -> str:
    """Text with what a terminal would obey, or nobody would see, as escapes; lines stay lines."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def first_line(error: BaseException | None) -> str:
    """What an error says first; its class where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def suggest(word: str, known: Iterable[str]) -> str | None:
    """'did you mean' for a mistyped or shortened ``word`` among the ``known`` words; None when nothing is near."""
    names = list(known)
    short = [name for name in names if word.lower() == _initials(name)]
    begun = [name for name in names if len(word) > 2 and name.lower().startswith(word.lower())]
    alone = short or (begun if len(begun) == 1 else [])
    near = alone or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else None


def _initials(name: str) -> str:
    """The first letters of the words of ``mean_squared_error`` or ``MeanSquaredError``."""
    words = re.findall(r"[A-Z]?[a-z0-9]+", name)
    return "".join(word[0] for word in words).lower() if len(words) > 1 else name.lower()


def require(module: str, extra: str) -> Any:
    """Import ``module`` (of ours or of others), or say which extra (if not empty) brings what it needs.

    Raises:
        MissingExtraError: When a package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        if missing == "dlbridge":
            raise
        hint = f"pip install 'dlbridge[{extra}]'" if extra else f"pip install {missing}"
        raise MissingExtraError(f"this needs '{missing}', which is not installed", hint=hint) from None
