"""Layers that look words or integers up in a vocabulary, which is a constant of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.building import TYPE_NAMES
from dlbridge.frameworks.keras.graph.call_site import CallSite, layer
from dlbridge.frameworks.keras.reads.preprocessing import encode
from dlbridge.ops.strings import ML


@layer("IntegerLookup")
def integer_lookup(site: CallSite) -> Any:
    """The index of an integer in the vocabulary, or the integer of an index, found by comparing it with each entry."""
    kind = site.layer
    x = site.cast(site.x, ir.DataType.INT64)
    if kind.invert:
        return _compared(site, x, _words_of_indices(site, kind))
    table = _indices_of_words(site, kind)
    return encoded(site, kind, _compared(site, x, table, _index_of_unknown(site, x, table)))


@layer("StringLookup")
def string_lookup(site: CallSite) -> Any:
    """The index of a word in the vocabulary, or the word of an index, by a ``LabelEncoder``."""
    kind = site.layer
    if kind.invert:
        table = _words_of_indices(site, kind)
        return _word(site, site.cast(site.x, ir.DataType.INT64), table)
    return encoded(site, kind, index_of_string(site, kind, site.x))


@dataclass(frozen=True)
class Table:
    """What a lookup maps to what.

    Attributes:
        keys: The keys: words of the vocabulary, or indices.
        values: The value of each.
        unknown: The value of what is none of the keys.
        masked: One more key, that of the mask token, and its value; None where there is none.
    """

    keys: Sequence[Any]
    values: Sequence[Any]
    unknown: Any
    masked: tuple[Any, Any] | None = None

    @property
    def rows(self) -> tuple[list[Any], list[Any]]:
        """The keys, the mask token among them, and their values."""
        more = [] if self.masked is None else [self.masked]
        return [*self.keys, *(key for key, _ in more)], [*self.values, *(value for _, value in more)]


def depth_of(kind: Any) -> int:
    """The number of classes that a lookup encodes words as, if it does not return indices."""
    if kind.pad_to_max_tokens:
        return int(kind.max_tokens)
    return len(_vocabulary(kind)) + int(kind.num_oov_indices)


def encoded(site: CallSite, kind: Any, index: ir.Value) -> ir.Value:
    """Indices as a lookup returns them: as they are, one-hot, multi-hot, as counts, or as counts times weights."""
    if kind.output_mode == "int":
        return index
    if kind.output_mode != "tf_idf":
        return encode(site, index, kind.output_mode, depth_of(kind), ir.DataType.INT64)
    return weighted(site, kind, encode(site, index, "count", depth_of(kind), ir.DataType.INT64))


def weighted(site: CallSite, kind: Any, counts: ir.Value) -> ir.Value:
    """Counts of words times their weights (the inverse frequencies of documents that have them)."""
    weights = np.asarray(kind.idf_weights_const)
    return site.cast(counts, weights.dtype.name) * weights


def index_of_string(site: CallSite, kind: Any, x: ir.Value) -> ir.Value:
    """The index in the vocabulary of each string, by a ``LabelEncoder``.

    Where there is no index for unknown words, on which Keras raises, the index is used in a ``Gather`` that they do not
    fit, so that the graph does not run on them either.
    """
    check_strings(site, x)
    if str(kind.encoding).lower().replace("-", "") != "utf8":
        site.refuse(f"words in the encoding {kind.encoding}: strings of ONNX are UTF-8")
    if kind.num_oov_indices > 1:
        site.refuse(
            f"num_oov_indices={kind.num_oov_indices} chooses the index of an unknown word by a hash, "
            "which ONNX has not; num_oov_indices=1 can be read"
        )
    table = _indices_of_words(site, kind)
    fits_all = kind.num_oov_indices == 1
    every = np.arange(max(table.rows[1]) + 1, dtype=np.int64)
    keys, values = table.rows
    found = site.layer_op(
        "LabelEncoder",
        x,
        domain=ML,
        keys_strings=keys,
        values_int64s=values,
        default_int64=table.unknown if fits_all else len(every),
    )
    return found if fits_all else site.op("Gather", site.build.value(every), found)


def check_strings(site: CallSite, x: ir.Value) -> None:
    """Refuse text that is none: Keras does not record the types of the inputs of a model without a graph."""
    if x.dtype != ir.DataType.STRING:
        name = "of an unknown type" if x.dtype is None else f"of dtype {TYPE_NAMES[x.dtype]}"
        site.refuse(
            f"its input is {name}, not text; where the model does not say the types of its inputs, say them: "
            "inputs={'x': 'string[batch,1]'} (--input)"
        )


def _word(site: CallSite, index: ir.Value, table: Table) -> ir.Value:
    keys, values = table.rows
    return site.layer_op(
        "LabelEncoder", index, domain=ML, keys_int64s=keys, values_strings=values, default_string=table.unknown
    )


def _vocabulary(kind: Any) -> list[str] | list[int]:
    words = kind.get_vocabulary(include_special_tokens=False)
    return [str(word) if isinstance(word, str) else int(word) for word in words]  # adapt makes numpy's own of them


def _start(kind: Any) -> int:
    """The index of the first of the unknown words."""
    return int(kind.mask_token is not None and kind.output_mode == "int")


def _known(site: CallSite, kind: Any) -> tuple[list[Any], list[int]]:
    """The words of the vocabulary, and their indices."""
    words: list[Any] = _vocabulary(kind)
    if not words:
        site.refuse("its vocabulary is empty: it was not adapted to data")
    first = _start(kind) + int(kind.num_oov_indices)
    return words, list(range(first, first + len(words)))


def _indices_of_words(site: CallSite, kind: Any) -> Table:
    words, indices = _known(site, kind)
    # no class: its row is zeros
    of_mask = 0 if kind.output_mode == "int" else depth_of(kind)
    return Table(words, indices, _start(kind), None if kind.mask_token is None else (kind.mask_token, of_mask))


def _words_of_indices(site: CallSite, kind: Any) -> Table:
    words, indices = _known(site, kind)
    return Table(indices, words, kind.oov_token, None if kind.mask_token is None else (0, kind.mask_token))


def _index_of_unknown(site: CallSite, x: ir.Value, table: Table) -> int | ir.Value:
    kind = site.layer
    if kind.num_oov_indices == 0:
        site.refuse("no index for unknown numbers: Keras raises on them")
    if kind.num_oov_indices == 1:
        return int(table.unknown)
    if kind.oov_method == "farmhash":
        site.refuse("several indices for unknown numbers by oov_method='farmhash': ONNX has no such hash")
    return site.op("Mod", x, kind.num_oov_indices) + table.unknown


def _compared(site: CallSite, x: ir.Value, table: Table, unknown: int | ir.Value | None = None) -> ir.Value:
    """The value of the key that a number is, ``unknown`` where it is none."""
    keys, values = np.asarray(table.keys, np.int64), np.asarray(table.values, np.int64)
    unknown = int(table.unknown) if unknown is None else unknown
    is_key = site.cast(site.op("Equal", site.unsqueeze(x, -1), keys), ir.DataType.INT64)
    if isinstance(unknown, int):
        gap = site.op("ReduceSum", is_key * (values - unknown), [-1], keepdims=0)
        found = gap + unknown
    else:
        known = site.op("ReduceSum", is_key * values, [-1], keepdims=0)
        is_known = site.cast(site.op("ReduceMax", is_key, [-1], keepdims=0), ir.DataType.BOOL)
        found = site.op("Where", is_known, known, unknown)
    if table.masked is None:
        return found
    key, value = (int(number) for number in table.masked)
    return site.op("Where", site.op("Equal", x, key), value, found)
