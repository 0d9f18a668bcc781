"""The random inputs that routes are compared on: arrays that a model can take."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

import dlbridge
from dlbridge import description
from dlbridge.verification.inputs.arrays import random_inputs
from dlbridge.verification.inputs.roles import Role, roles
from dlbridge.verification.inputs.strategies import LARGER, STRATEGIES

TEXT = """
dlbridge: 1
name: m
inputs: {x: {dtype: float32, shape: [steps, batch, 3]}, length: {dtype: int32, shape: [batch]}}
nodes:
  - {name: lstm, op: LSTM, from: x, hidden_size: 2, sequence_lens: length}
outputs: [lstm]
"""


def test_lengths_of_sequences_are_lengths():
    arrays = random_inputs(description.load(TEXT), {"steps": 3, "batch": 200})
    assert arrays["x"].shape == (3, 200, 3)
    assert set(np.unique(arrays["length"])) == {1, 2, 3}


FLOATS_AS_INDICES = """
dlbridge: 1
name: m
inputs: {x: {dtype: float32, shape: [batch, 4]}}
nodes:
  - {op: Cast, to: int32}
  - {name: found, op: Embedding, count: %d, size: 1}
outputs: [found]
"""


@pytest.mark.parametrize("rows", [1, 7, 1_000_000])
def test_floats_that_become_indices_stay_within_the_table(rows):
    """As of ``keras.Input((20,))``, whose dtype is float32, before an ``Embedding``: whatever the strategy is."""
    (role,) = roles(description.load(FLOATS_AS_INDICES % rows), {})
    for strategy in STRATEGIES:
        found = strategy.numbers(role, (50, 4), np.random.default_rng(0))
        indices = np.zeros(1) if found is None else found.astype(np.float32).astype(np.int32)
        assert 0 <= indices.min() <= indices.max() < rows, strategy.name


LAST = """<ir_version: 8, opset_import: ["": 18]>
net (float[N, 6] x, int64[N, 1] length) => (float[N, 1] y) <int64 one = {1}, int64 zero = {0}> {
    last = Sub(length, one)
    place = %s
    y = GatherElements<axis = 1>(x, place)
}"""


@pytest.mark.parametrize(
    ("place", "lengths"), [("Clip(last, zero)", {0, 1, 2, 3, 4, 5, 6}), ("Identity(last)", {1, 2, 3, 4, 5, 6})]
)
def test_an_index_to_which_a_constant_is_added_stays_within_the_table(place, lengths, tmp_path):
    """The last step of a sequence is read at its length less one; what is cut off at 0 may be less."""
    onnx.save(onnx.parser.parse_model(LAST % place), tmp_path / "net.onnx")
    arrays = random_inputs(dlbridge.load(tmp_path / "net.onnx"), {"N": 200})
    assert set(np.unique(arrays["length"])) == lengths


def number(dtype, **more):
    return Role(ir.Value(name="x", type=ir.TensorType(dtype)), **more)


def filled(name, role, shape):
    (strategy,) = [strategy for strategy in (*STRATEGIES, LARGER) if strategy.name == name]
    return strategy.numbers(role, shape, np.random.default_rng(0))


def test_rows_are_alike_in_all_inputs_and_one_is_there_twice():
    item, words = filled("alike", number(ir.DataType.INT64, rows=50), (6,)), number(ir.DataType.INT64, rows=40)
    assert item.tolist() == [0, 0, 1, 2, 2, 3]
    assert (filled("alike", words, (6, 4)) == item[:, None]).all()


def test_numbers_grow_in_a_row_and_fall_in_the_next():
    steps = np.diff(filled("sorted", number(ir.DataType.FLOAT), (4, 9)), axis=1)
    assert (steps[::2] > 0).all() and (steps[1::2] < 0).all()


def test_larger_integers_are_beyond_float16_and_within_float32():
    found = filled("larger integers", number(ir.DataType.INT64), (200,))
    assert found.max() > 65504 and found.min() >= 0 and len(np.unique(found[found < 1e4])) > 20
    assert (found.astype(np.float32) == found).all()
    assert filled("larger integers", number(ir.DataType.INT64, rows=5), (200,)) is None


def test_a_part_of_an_index_counts_from_the_end():
    role = number(ir.DataType.INT64, rows=9, is_gathered=True)
    first, last = filled("negative at the first", role, (2, 30)), filled("negative at the last", role, (2, 30))
    assert (first[0] < 0).all() and (first[1] >= 0).all()
    assert (last[0] >= 0).all() and (last[1] < 0).all()
    assert min(first.min(), last.min()) >= -9


def test_what_an_index_is_compared_with_is_in_any_number_of_places():
    found = filled("padded", number(ir.DataType.INT64, rows=30, edges=(7.0,)), (300, 4))
    is_word = found != 7
    assert set(is_word.sum(1)) == {0, 1, 2, 3, 4}
    assert {(True, True, False, False), (False, False, True, True), (True, False, False, True)} <= set(
        map(tuple, is_word)
    )
    assert filled("padded", number(ir.DataType.INT64, rows=30), (300, 4)) is None


def test_a_row_is_next_to_nothing_from_some_place_on():
    found = np.abs(filled("partly quiet", number(ir.DataType.FLOAT), (50, 8)))
    assert (found[:, 0] > 1e-5).sum() > 45 and 0 < (found[:, -1] > 1e-5).sum() < 25 and found.min() < 1e-6


def test_numbers_are_rounded_behind_a_sort_too(tmp_path):
    text = """<ir_version: 8, opset_import: ["": 18]>
    net (float[N, 6] x) => (float[N, 2] y) <int64[1] two = {2}, float four = {4}> {
        best, places = TopK(x, two)
        scaled = Mul(best, four)
        y = Round(scaled)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    (role,) = roles(dlbridge.load(tmp_path / "net.onnx"), {})
    assert {0.125, -0.625} <= set(role.edges)
