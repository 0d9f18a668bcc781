"""Names in printed code: identifiers that read well and do not clash, and names that are printed as literals.

Names come from files of anyone. One reaches printed code through the functions of this module alone: as an identifier
that was made of it, or, escaped, as a string.
"""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Iterable

from dlbridge.ops.names import python_name, unique

__all__ = [
    *("Names", "argument_names", "class_name", "identifier", "is_index", "is_plain", "last_word", "quoted"),
    "snake_case",
]

_TAKEN = set(keyword.kwlist) | set(keyword.softkwlist) | set(dir(builtins))
#: An item's number. Nobody writes a list of more modules than these digits count; one would be filled up to there.
_INDEX = re.compile(r"0|[1-9][0-9]{0,3}")


def identifier(text: str, fallback: str = "x") -> str:
    """A Python identifier near to ``text`` for printed code: in ASCII, and no keyword or builtin."""
    return python_name(text, fallback, reserved=_TAKEN, ascii_only=True)


def quoted(text: str) -> str:
    """The text as a Python string literal: it ends where the text ends, whatever the text holds."""
    return '"' + "".join('\\"' if c == '"' else repr(c)[1:-1] for c in text) + '"'


def is_plain(word: str) -> bool:
    """Whether a word is an identifier that stays as it is in a class's code.

    Python reads look-alikes of letters as these letters (``ﬁ`` is ``fi``), and puts the name of the class before what
    begins with two underscores.
    """
    same = unicodedata.normalize("NFKC", word) == word
    return word.isidentifier() and same and not keyword.iskeyword(word) and not word.startswith("__")


def is_index(word: str) -> bool:
    """Whether a part of a path is the number of an item in a list, as Python writes it."""
    return _INDEX.fullmatch(word) is not None


def last_word(path: str) -> str:
    """The last part of a dotted path, together with the part before it if it begins with a number.

    Example:
        >>> last_word("encoder.state"), last_word("decoder.cache.0")
        ('state', 'cache.0')
    """
    head, _, last = path.rpartition(".")
    return f"{head.rpartition('.')[2]}.{last}" if head and last[:1].isdigit() else last


def class_name(text: str) -> str:
    """``basic_block`` -> ``BasicBlock``; a name that is in CamelCase already stays."""
    words = [w for w in re.split(r"[\W_]", text, flags=re.ASCII) if w]
    name = "".join(w[0].upper() + w[1:] for w in words)
    return identifier(name, "Block") if name and not name[0].isdigit() else f"Block{name}"


def snake_case(text: str) -> str:
    """``BasicBlock`` -> ``basic_block``."""
    return identifier(re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text).lower(), "block")


def argument_names(texts: Iterable[str], reserved: Iterable[str]) -> list[str]:
    """Names of a function's arguments, near to these texts; one that the function uses otherwise is ``..._input``."""
    taken = Names(*reserved)
    words = [identifier(text) for text in texts]
    return [taken.fresh(f"{word}_input" if word in reserved else word) for word in words]


class Names:
    """Gives out names that are not taken yet."""

    def __init__(self, *taken: str) -> None:
        self._taken = set(taken)

    def fresh(self, wanted: str) -> str:
        """``wanted``, or ``wanted_1``, ``wanted_2``, ... when it is taken."""
        return unique(wanted, self._taken)

    @property
    def taken(self) -> frozenset[str]:
        return frozenset(self._taken)

    def take(self, name: str) -> str:
        self._taken.add(name)
        return name
