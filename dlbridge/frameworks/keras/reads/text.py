"""``TextVectorization``: text in lower case, without punctuation, split into words, and these looked up.

ONNX has no ragged tensors and no regular expression that replaces. Words are a vector of all words, beside one of the
rows that they are of. Strings are split at one delimiter after the other, each stated: what splits at whitespace means
is left open by the standard, and onnxruntime, the reference evaluator and TensorFlow differ in it. Punctuation is
removed by splitting there, too, and joining the pieces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras import compat
from dlbridge.frameworks.keras.graph.call_site import CallSite, layer
from dlbridge.frameworks.keras.reads.lookup import check_strings, depth_of, encoded, index_of_string, weighted
from dlbridge.ops.strings import ML

#: What ``tf.strings.split`` splits at; the most frequent one first, so that there is less to do for the others.
_WHITESPACE = " \n\t\r\x0b\x0c"
#: What Keras' ``strip_punctuation`` removes.
_PUNCTUATION = "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'"


@dataclass(frozen=True)
class Words:
    """The words of several texts.

    Attributes:
        strings: All of them, those of the first text first.
        rows: The number of the text that each is of.
    """

    strings: ir.Value
    rows: ir.Value


@layer("TextVectorization")
def text_vectorization(site: CallSite) -> Any:
    """Indices of the words of each text, or which words it has, or how often."""
    config, kind = site.layer.get_config(), compat.lookup_of(site.layer)
    _check(site, config)
    texts = site.x
    check_strings(site, texts)
    standardize = config["standardize"] or ""
    if "lower" in standardize:
        texts = _lower(site, texts)
    strips = "strip_punctuation" in standardize
    if config["split"] is None:
        found = index_of_string(site, kind, _stripped(site, texts) if strips else texts)
        return _to_length(site, found, config) if kind.output_mode == "int" else encoded(site, kind, found)
    if site.rank(texts) > 1:
        texts = site.squeeze(texts, -1)
    if site.rank(texts) != 1:
        site.refuse("text of more than one axis behind the batch")
    words = _split(site, Words(texts, site.steps(texts, 0)), _WHITESPACE)
    if strips:
        words = _filled(site, Words(_without_punctuation(site, words.strings), words.rows))
    if config["ngrams"] is not None:
        words = _grams(site, words, config["ngrams"])
    indices = Words(index_of_string(site, kind, words.strings), words.rows)
    if kind.output_mode == "int":
        return _sequences(site, texts, indices, config["output_sequence_length"])
    counts = _counted(site, texts, indices, depth_of(kind), is_hot=kind.output_mode == "multi_hot")
    return weighted(site, kind, counts) if kind.output_mode == "tf_idf" else counts


def _check(site: CallSite, config: dict[str, Any]) -> None:
    """Refuse what ONNX has no ops for, with what can be read instead."""
    if not isinstance(config["standardize"], str | None):
        site.refuse(
            "standardize is code; 'lower_and_strip_punctuation', 'lower', 'strip_punctuation' and None can be read"
        )
    if config["split"] not in (None, "whitespace"):
        what = "at each character" if config["split"] == "character" else "by code"
        site.refuse(f"it splits text {what}, which no op of ONNX does; split='whitespace' and None can be read")
    if config["ragged"] or config["sparse"]:
        site.refuse("a ragged or sparse result, which ONNX has not; without ragged=True and sparse=True it can be read")
    if config["ngrams"] is not None and (config["output_mode"] == "int" or config["split"] is None):
        site.refuse(
            "ngrams in order, or of text that is not split; with output_mode='multi_hot', 'count' or 'tf_idf' and "
            "split='whitespace' they can be read"
        )


# --- strings ----------------------------------------------------------------------------------------------------------


def _lower(site: CallSite, texts: ir.Value) -> ir.Value:
    """Letters of ASCII in lower case, and those alone, as ``tf.strings.lower`` does it; onnxruntime takes vectors."""
    is_vector = site.rank(texts) == 1
    flat = texts if is_vector else site.reshape(texts, [-1])
    lower = site.op("StringNormalizer", flat, case_change_action="LOWER", locale="C")
    return lower if is_vector else site.op("Reshape", lower, site.op("Shape", texts))


def _split(site: CallSite, words: Words, delimiters: str) -> Words:
    """Strings split at each of these characters; empty ones go."""
    for delimiter in delimiters:
        parts, _ = site.op("StringSplit", words.strings, delimiter=delimiter, outputs=2)
        places = _places_of_filled(site, parts)
        strings = site.op("GatherND", parts, site.transpose(places, [1, 0]))
        words = Words(strings, site.op("Gather", words.rows, _row(site, places, 0)))
    return words


def _filled(site: CallSite, words: Words) -> Words:
    """The words that are not empty."""
    places = _row(site, _places_of_filled(site, words.strings), 0)
    return Words(*(site.op("Gather", each, places) for each in (words.strings, words.rows)))


def _places_of_filled(site: CallSite, strings: ir.Value) -> ir.Value:
    """The indices of the strings that are not empty, as ``NonZero`` has them."""
    filled = site.op("LabelEncoder", strings, domain=ML, keys_strings=[""], values_int64s=[0], default_int64=1)
    return site.op("NonZero", filled)


def _stripped(site: CallSite, texts: ir.Value) -> ir.Value:
    """Text of any shape without punctuation."""
    flat = _without_punctuation(site, site.reshape(texts, [-1]))
    return site.op("Reshape", flat, site.op("Shape", texts))


def _without_punctuation(site: CallSite, strings: ir.Value) -> ir.Value:
    """A vector of strings without punctuation: those that have some are split there and joined again."""
    clean = site.op("RegexFullMatch", strings, pattern=f"[^{re.escape(_PUNCTUATION)}]*")
    places = _row(site, site.op("NonZero", site.op("Not", clean)), 0)
    marked = site.op("Gather", strings, places)
    joined = _joined(site, marked, _split(site, Words(marked, site.steps(marked, 0)), _PUNCTUATION))
    return site.op("ScatterND", strings, site.unsqueeze(places, -1), joined)


def _joined(site: CallSite, words: ir.Value, pieces: Words) -> ir.Value:
    """The pieces of each word, one behind the other: row by row of a table with a column for each word.

    A ``Loop`` has new strings in each round. In a ``Scan`` they share memory with those of the round before the last,
    which onnxruntime 1.32 joins them to.
    """
    ranks, longest = _ranks(site, words, pieces)
    blank, none = site.build.value(np.asarray("", object)), site.build.value(0, ir.DataType.INT64)
    count = site.op("Shape", words)
    rounds = site.op("Max", longest, none)  # of no words, the maximum is the least of all numbers
    table = site.op("Expand", blank, site.op("Concat", site.unsqueeze(rounds, 0), count, axis=0))
    table = site.op("ScatterND", table, _pairs(site, ranks, pieces.rows), pieces.strings)
    like = (ir.DataType.STRING, list(words.shape or [None]))
    with site.build.body("join", [(ir.DataType.INT64, []), (ir.DataType.BOOL, []), like]) as body:
        index, goes_on, before = body.inputs
        first = site.build.op("Unsqueeze", index, [0])
        row = site.build.op("Slice", table, first, site.build.op("Add", first, 1), [0])
        both = site.build.op("StringConcat", before, site.build.op("Squeeze", row, [0]))
        site.build.give(body, [(goes_on, ir.DataType.BOOL), (both, ir.DataType.STRING)])
    start = site.op("Expand", blank, count)
    return site.build.control("Loop", [rounds, site.build.value(True), start], [like], body=body)[0]


def _grams(site: CallSite, words: Words, widths: int | tuple[int, ...]) -> Words:
    """Words that follow each other in a text, with a space between, for each of these numbers of words."""
    found = [_gram(site, words, width) for width in (range(1, widths + 1) if isinstance(widths, int) else widths)]
    if len(found) == 1:
        return found[0]
    return Words(
        site.op("Concat", *(each.strings for each in found), axis=0),
        site.op("Concat", *(each.rows for each in found), axis=0),
    )


def _gram(site: CallSite, words: Words, width: int) -> Words:
    if width == 1:
        return words
    space = site.build.value(np.asarray(" ", object))

    def part(value: ir.Value, index: int) -> ir.Value:
        after = width - 1 - index
        return site.slice(value, 0, index, -after if after else None)

    strings = part(words.strings, 0)
    for index in range(1, width):
        strings = site.op("StringConcat", site.op("StringConcat", strings, space), part(words.strings, index))
    rows = part(words.rows, 0)
    is_one_text = site.op("Equal", rows, part(words.rows, width - 1))
    places = _row(site, site.op("NonZero", is_one_text), 0)
    return Words(site.op("Gather", strings, places), site.op("Gather", rows, places))


# --- indices ----------------------------------------------------------------------------------------------------------


def _sequences(site: CallSite, texts: ir.Value, words: Words, length: int | None) -> ir.Value:
    """The indices of the words of each text in a row, padded with 0 to a length or that of the longest."""
    ranks, longest = _ranks(site, texts, words)
    indices, rows = words.strings, words.rows
    if length is not None:
        is_within = site.op("Less", ranks, length)
        places = _row(site, site.op("NonZero", is_within), 0)
        ranks, indices, rows = (site.op("Gather", value, places) for value in (ranks, indices, rows))
        longest = site.build.value(length, ir.DataType.INT64)
    sizes = site.op("Concat", site.op("Shape", texts), site.unsqueeze(longest, 0), axis=0)
    return site.op("ScatterND", _whole(site, sizes, 0), _pairs(site, rows, ranks), indices)


def _counted(site: CallSite, texts: ir.Value, words: Words, depth: int, *, is_hot: bool) -> ir.Value:
    """How often each text has each word of the vocabulary, or whether it has it."""
    sizes = site.op("Concat", site.op("Shape", texts), site.build.value([depth]), axis=0)
    ones = _whole(site, site.op("Shape", words.rows), 1)
    pairs = _pairs(site, words.rows, words.strings)
    return site.op("ScatterND", _whole(site, sizes, 0), pairs, ones, reduction="max" if is_hot else "add")


def _to_length(site: CallSite, indices: ir.Value, config: dict[str, Any]) -> ir.Value:
    """Indices of words that are not split, cut or padded with 0 along the last axis."""
    length = config["output_sequence_length"]
    if length is None:
        return indices
    count = site.shape(indices)[-1] if site.rank(indices) > 1 else None
    site.require([count], "output_sequence_length along an axis whose size is not known")
    if count >= length:
        return site.slice(indices, -1, 0, length)
    pads = np.zeros((2, site.rank(indices)), np.int64)
    pads[1, -1] = length - count
    return site.op("Pad", indices, pads.reshape(-1))


def _ranks(site: CallSite, owners: ir.Value, parts: Words) -> tuple[ir.Value, ir.Value]:
    """(which part of its row each part is, the most parts of a row); ``owners`` has one element for each row."""
    ones = _whole(site, site.op("Shape", parts.rows), 1)
    none = _whole(site, site.op("Shape", owners), 0)
    counts = site.op("ScatterElements", none, parts.rows, ones, axis=0, reduction="add")
    starts = site.op("CumSum", counts, 0, exclusive=1)
    ranks = site.steps(parts.rows, 0) - site.op("Gather", starts, parts.rows)
    return ranks, site.op("ReduceMax", counts, keepdims=0)


def _whole(site: CallSite, sizes: ir.Value, number: int) -> ir.Value:
    """A tensor of these sizes that is filled with a number."""
    return site.op("ConstantOfShape", sizes, value=ir.tensor([number], dtype=ir.DataType.INT64))


def _pairs(site: CallSite, rows: ir.Value, columns: ir.Value) -> ir.Value:
    return site.op("Concat", site.unsqueeze(rows, -1), site.unsqueeze(columns, -1), axis=-1)


def _row(site: CallSite, matrix: ir.Value, index: int) -> ir.Value:
    return site.op("Gather", matrix, index, axis=0)
