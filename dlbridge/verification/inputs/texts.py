"""Texts to verify with: what a graph does with an input of strings, and strings that reach all of it.

Words come from the vocabularies that the graph looks them up in, and from beside them: a word that is almost one, a
letter that is not ASCII, nothing at all. Where the graph splits its strings, several words are put into one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlbridge.ops.keys import is_op
from dlbridge.ops.strings import LABEL_ENCODER
from dlbridge.passes.matching import Match, stored

#: Words for a graph that has no vocabulary.
_WORDS = ("alpha", "beta", "gamma", "delta")
#: What is in no vocabulary, and what lower case, Unicode's spaces and a byte-wise view of text would take otherwise.
_UNICODE = ("É", "é", "e\u0301", "ẞ", "straße", "İ", "日本語", "😀", "a\u00a0b", "a\u2003b", "\u200b", "\ufeff", "ﬁ")
#: Whitespace of ASCII, and runs of it.
_SPACES = (" ", "  ", "\t", "\n", "\r\n", " \t ", "\x0b", "\x0c")
_PUNCTUATION = (".", ",", "!", "?", "'", "-", "--", '"', "(", ")", "...", "_", "\\", "[", "]", "^", "~", "+", "$")
#: The most words that are put into one string; a set with few strings still meets a vocabulary of some hundreds.
_MOST, _MANY = 8, 32


@dataclass(frozen=True)
class Text:
    """What a graph does with an input of strings.

    Attributes:
        words: The words that it knows; some made-up ones if it knows none.
        splits: Whether it takes strings apart.
        takes_unknown: Whether it has an answer to words that it does not know.
    """

    words: tuple[str, ...]
    splits: bool = False
    takes_unknown: bool = True


#: The strings of an input, from what the graph does with it, a shape and a generator; None where there are none.
Fill = Callable[[Text, tuple[int, ...], np.random.Generator], "np.ndarray | None"]


def text_of(value: ir.Value) -> Text | None:
    """What a graph does with a value; None if that is no string."""
    if value.dtype != ir.DataType.STRING:
        return None
    words: dict[str, None] = {}
    splits, takes_unknown = False, True
    for node in _readers(value):
        splits |= is_op(node, "StringSplit")
        words.update(dict.fromkeys(_known_words(node)))
        takes_unknown &= not _fails_on_unknown(node)
    return Text(tuple(word for word in words) or _WORDS, splits, takes_unknown)


def _readers(value: ir.Value) -> Iterator[ir.Node]:
    """The nodes that read a value, or strings that are made of it."""
    seen: set[ir.Node] = set()
    pending = [value]
    while pending:
        for node, _ in pending.pop().uses():
            if node in seen:
                continue
            seen.add(node)
            yield node
            pending += [output for output in node.outputs if output.dtype == ir.DataType.STRING]


def _known_words(node: ir.Node) -> list[str]:
    """The strings that a node compares its input with."""
    if is_op(node, LABEL_ENCODER):
        return [_text(word) for word in Match(node).get("keys_strings", ())]
    held = [stored(operand) for operand in node.inputs] if is_op(node, "Equal") else []
    return [_text(w) for t in held if t is not None and t.dtype == ir.DataType.STRING for w in t.numpy().reshape(-1)]


def _text(word: str | bytes) -> str:
    return word.decode("utf-8") if isinstance(word, bytes) else word


def _fails_on_unknown(node: ir.Node) -> bool:
    """Whether the number for unknown words is a row that a table behind it has not."""
    if not is_op(node, LABEL_ENCODER):
        return False
    unknown = Match(node).get("default_int64", -1)
    for use in node.outputs[0].uses():
        table = stored(use.node.inputs[0]) if is_op(use.node, "Gather") and use.idx == 1 else None
        if table is not None and unknown >= table.shape.numpy()[0]:
            return True
    return False


# --- strings ----------------------------------------------------------------------------------------------------------


def known(text: Text, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Words that the graph knows; some that it does not, where it has an answer to these."""
    strange = _strange(text, generator, 4) if text.takes_unknown else []
    # a vocabulary is often larger than there are places: the words that are not known keep their share
    drawn = [*generator.choice(np.asarray(text.words, object), max(12, 3 * len(strange))), *strange]
    return _sentences(text, drawn, shape, generator)


def every_word(text: Text, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """All words of the vocabulary, as far as there is room for them."""
    words = np.asarray(text.words, object)[generator.permutation(len(text.words))]
    count = int(np.prod(shape))
    if not text.splits:
        return _array(np.resize(words, count), shape)
    each = min(_MANY, -(-len(words) // max(count, 1)))
    drawn = np.resize(words, count * each).reshape(count, each)
    return _array([" ".join(row) for row in drawn], shape)


def unknown_words(text: Text, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Words that are almost in the vocabulary: in capitals, with a letter more or less, with a space."""
    if not text.takes_unknown:
        return None
    return _sentences(text, [*_strange(text, generator, 24), *text.words[:2]], shape, generator)


def unicode(text: Text, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Letters, spaces and signs beyond ASCII."""
    return _sentences(text, [*_UNICODE, *text.words[:2]], shape, generator) if text.takes_unknown else None


def empty(text: Text, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Empty strings, and those that have nothing but spaces."""
    return (
        _array(generator.choice(np.asarray(["", "", *_SPACES], object), shape), shape) if text.takes_unknown else None
    )


def spaces(text: Text, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray | None:
    """Words between whitespace of every kind and punctuation, and with punctuation in them, in strings that the graph
    splits."""
    if not text.splits or not text.takes_unknown:
        return None
    words, joints = np.asarray(text.words, object), np.asarray([*_SPACES, *_PUNCTUATION], object)
    strings = []
    for _ in range(int(np.prod(shape))):
        count = int(generator.integers(1, _MOST))
        marked = [_pointed(word, generator) for word in generator.choice(words, count)]
        pairs = zip(marked, generator.choice(joints, (count, 2)), strict=True)
        strings.append("".join(f"{before}{word}{after}" for word, (before, after) in pairs))
    return _array(strings, shape)


def _pointed(word: str, generator: np.random.Generator) -> str:
    """A word, or one with punctuation behind each letter, which is the same word where that is removed."""
    if generator.random() < 0.5:
        return word
    return "".join(
        f"{letter}{mark}" for letter, mark in zip(word, generator.choice(_PUNCTUATION, len(word)), strict=True)
    )


def _strange(text: Text, generator: np.random.Generator, count: int) -> list[str]:
    """Words that are probably not in the vocabulary."""
    found = []
    for word in generator.choice(np.asarray(text.words, object), count):
        forms = (word.upper(), word.title(), f"{word}s", word[:-1], f" {word}", f"{word}\n", word[::-1], "[UNK]", "?")
        found.append(forms[int(generator.integers(len(forms)))])
    return found


def _sentences(text: Text, words: Sequence[str], shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """These words, one a string, or several where the graph splits strings."""
    pool, count = np.asarray(words, object), int(np.prod(shape))
    if not text.splits:
        return _array(generator.choice(pool, count), shape)
    lengths = generator.integers(0, _MOST + 1, count)
    return _array([" ".join(generator.choice(pool, length)) for length in lengths], shape)


def _array(strings: Sequence[str] | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    found = np.empty(int(np.prod(shape)), object)
    found[:] = [str(one) for one in np.asarray(strings, object).reshape(-1)]
    return found.reshape(shape)
