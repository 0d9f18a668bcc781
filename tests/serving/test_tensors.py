"""Tensors on their way: what goes in comes out, and what is broken is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlbridge.repository.datatypes import CONFIG_TYPES
from dlbridge.runtime.values import DTYPES
from dlbridge.serving import classification, frames, tensors
from dlbridge.serving.problems import ServingError
from dlbridge.serving.tensors import Tensor

NUMBERS = ["bool", "int8", "uint16", "int32", "int64", "uint64", "float16", "float32", "float64"]
arrays = st.sampled_from(NUMBERS).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)))


@given(arrays)
def test_an_array_survives_the_way(array):
    tensor = tensors.from_array(array)
    tensors.check_size(tensor, "x")
    assert tensors.to_array(tensor).tobytes() == array.tobytes()


@given(st.lists(st.text(), max_size=6))
def test_strings_survive_the_way(texts):
    tensor = tensors.from_array(np.array(texts, dtype=object))
    assert tensors.to_array(tensor).tolist() == texts
    assert tensors.to_json(tensor, "x") == texts


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.sampled_from([*NUMBERS, "object"]), st.data())
def test_splitting_undoes_joining(rows, dtype, data):
    inner = data.draw(st.tuples(st.integers(0, 3), st.integers(1, 3)))
    parts = [
        np.arange(r * inner[0] * inner[1]).reshape(r, *inner).astype(dtype if dtype != "object" else str) for r in rows
    ]
    given = [tensors.from_array(p.astype(dtype)) for p in parts]
    found = tensors.split_rows(tensors.join_rows(given), rows)
    assert [(t.shape, bytes(t.data)) for t in found] == [(t.shape, bytes(t.data)) for t in given]


@given(st.sampled_from([*CONFIG_TYPES]), st.lists(st.integers(0, 5), max_size=3), st.binary(max_size=64))
def test_bytes_that_do_not_fit_are_refused(datatype, shape, data):
    tensor = Tensor(datatype, tuple(shape), data)
    try:
        tensors.check_size(tensor, "x")
    except ServingError:
        return
    assert tensors.to_array(tensor).shape == tuple(shape)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=12,
)


@given(st.sampled_from([*CONFIG_TYPES]), st.lists(st.integers(0, 3), max_size=3), values)
def test_json_makes_a_whole_tensor_or_an_error(datatype, shape, data):
    try:
        tensor = tensors.from_json(datatype, tuple(shape), data, "x")
    except ServingError:
        return
    tensors.check_size(tensor, "x")


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT8", [200]),
        ("UINT8", [-1]),
        ("INT32", [1.5]),
        ("BOOL", [1]),
        ("FP32", [True]),
        ("FP32", [1e39]),
        ("INT64", [2**63]),
    ],
)
def test_numbers_that_would_change_are_refused(datatype, data):
    with pytest.raises(ServingError):
        tensors.from_json(datatype, (1,), data, "x")


@given(st.lists(st.tuples(arrays, st.text(max_size=4)), max_size=3), st.data())
def test_frames_come_out_whole_however_they_are_cut(entries, data):
    named = [(name, tensors.from_array(array)) for array, name in entries]
    sent = b"".join(frames.encode({"of": frames.described(named)}, [t.data for _, t in named])) * 2
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
    decoder, found = frames.Decoder(), []
    for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        found += list(decoder.feed(sent[begin:end]))
    assert len(found) == 2
    for header, payload in found:
        again = list(frames.tensors(header["of"], payload))
        assert [(n, t.shape, bytes(t.data)) for n, t in again] == [(n, t.shape, bytes(t.data)) for n, t in named]


def test_whole_numbers_of_all_sizes_come_as_they_are():
    """numpy makes float64 of some above the largest of int64 beside others."""
    for datatype, data in (("UINT64", [2**64 - 1, 0]), ("INT64", [2**63 - 1, -(2**63)])):
        assert tensors.to_json(tensors.from_json(datatype, (2,), data, "x"), "x") == data
    for datatype, data in (("INT64", [2**63, 1]), ("INT64", [2**63, -1]), ("UINT64", [2**63, -1]), ("INT64", [1.0, 2])):
        with pytest.raises(ServingError, match=r"range|floating"):
            tensors.from_json(datatype, (2,), data, "x")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_json_has_no_number_for_is_no_null(number):
    for dtype in (np.float32, np.float64):
        with pytest.raises(ServingError, match="NaN or an infinite number"):
            tensors.to_json(tensors.from_array(np.array([1, number], dtype)), "x")


def test_any_byte_but_zero_is_true():
    assert tensors.to_array(Tensor("BOOL", (3,), b"\x02\x00\x01")).tobytes() == b"\x01\x00\x01"


def test_a_shape_that_no_array_has_is_refused():
    with pytest.raises(ServingError, match="no tensor can have"):
        tensors.check_size(Tensor("FP32", (2**62, 0), b""), "x")


def test_a_type_without_a_name_in_the_protocol_is_told():
    with pytest.raises(ServingError, match="no datatype for float8_e4m3fn"):
        tensors.datatype_of(DTYPES["float8e4m3fn"], "x")


def test_an_output_without_classes_is_told():
    with pytest.raises(ServingError, match="has no classes"):
        classification.classes(Tensor("FP32", (2, 0), b""), 1, None, "m")
