"""The numbers that stand in the form under test are tried as sizes and as inputs."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

import dlbridge
from dlbridge import description
from dlbridge.verification import literals
from dlbridge.verification.battery import Battery
from dlbridge.verification.judge import find
from dlbridge.verification.roles import Role

DENSE = """
dlbridge: 1
name: dense
inputs: {x: {dtype: float32, shape: [batch, 6]}}
nodes:
  - {name: fc, op: Linear, features: 3}
outputs: {scores: fc}
"""


def role(dtype, **more):
    return Role(ir.Value(name="x", type=ir.TensorType(dtype)), **more)


def test_numbers_are_read_from_code_without_running_it(tmp_path):
    (tmp_path / "model.py").write_text("raise SystemExit\nif x.shape[0] == 37 or (x > -2.5).any() or True: y = 1e30\n")
    assert literals.numbers_of([tmp_path]) == {0.0, 37.0, 2.5, -2.5}
    (tmp_path / "model.py").write_text("if x.shape[0] ==")
    assert literals.numbers_of([tmp_path]) == set()


def test_numbers_are_read_from_graphs(tmp_path):
    text = '<ir_version: 8, opset_import: ["": 18]> net (float[N] x) => (float[N] y) <float c = {37}> {y = Min(x, c)}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    assert literals.numbers_of([dlbridge.load(tmp_path / "net.onnx")]) == {37.0}
    assert literals.numbers_of([description.load(DENSE)]) == set(), "weights are no constants"


def test_sizes_are_whole_numbers_and_the_next_ones():
    assert literals.sizes_of([0.0, -3.0, 2.5, 37.0, 1000.0]) == [37, 38]


@pytest.mark.parametrize("shape", [(9, 4), (1,), ()])
def test_inputs_are_filled_with_the_numbers_and_their_neighbours(shape):
    fill, generator = literals.strategy([37.0]), np.random.default_rng(0)
    assert set(np.unique(np.abs(fill.numbers(role(ir.DataType.FLOAT), shape, generator) - 37)).round(3)) <= {0, 0.01}
    assert set(np.unique(fill.numbers(role(ir.DataType.INT64), shape, generator))) <= {36, 37, 38}
    assert set(np.unique(fill.numbers(role(ir.DataType.INT64, rows=30), shape, generator))) <= {6, 7, 8}
    assert fill.numbers(role(ir.DataType.INT64, decides_sizes=True), shape, generator) is None
    assert fill.numbers(role(ir.DataType.BOOL), shape, generator) is None


def test_every_other_row_has_one_number_alone():
    found = literals.strategy([3.0, 7.0]).numbers(role(ir.DataType.FLOAT), (6, 50), np.random.default_rng(0))
    assert [len(np.unique(row)) == 1 for row in found] == [True, False] * 3


def test_a_size_that_the_code_names_is_tried():
    model = description.load(DENSE)
    tried = [
        {
            case.sizes["batch"]
            for case in Battery(model, {}, None, 0, True, frozenset(numbers)).cases(find(model, None, []))
        }
        for numbers in ((), (37.0,))
    ]
    assert tried[1] - tried[0] == {37, 38}
    assert set(range(1, 11)) <= tried[0]
