"""The numbers that stand in the form under test are tried as sizes and as inputs."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

import dlbridge
from dlbridge import description
from dlbridge.verification.inputs import literals
from dlbridge.verification.inputs.battery import Battery
from dlbridge.verification.inputs.roles import Role
from dlbridge.verification.judge import find

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


def test_numbers_are_what_expressions_of_numbers_are(tmp_path):
    (tmp_path / "model.py").write_text("a = 2**4 + 5, -(7 // 2), 1 << 10, 8.0 / 0, 9 ** 999999, x + 3, 2 ** 3 ** 4\n")
    found = literals.numbers_of([tmp_path])
    assert {21.0, -3.0, 1024.0} <= found
    assert found <= {2.0, 4.0, 5.0, 16.0, 21.0, 7.0, 3.0, -3.0, 1.0, 10.0, 1024.0, 8.0, 0.0, 9.0, 999999.0, 81.0}


def test_foreign_numbers_are_in_no_graph_and_no_usual_ones():
    model = description.load(DENSE)
    assert literals.foreign([1.0, 3.0, -4.0, 6.0, 7.0, 0.1], model) == [0.1, 7.0]
    assert literals.between([3.0, 7.0, 8.0]) == [3.0, 5.0, 7.0, 7.5, 8.0]


@pytest.mark.parametrize("shape", [(6, 3), (1,), ()])
def test_numbers_are_tried_everywhere_and_together(shape):
    generator = np.random.default_rng(0)
    assert (literals.everywhere(37.5).numbers(role(ir.DataType.FLOAT), shape, generator) == 37.5).all()
    assert (literals.everywhere(37.5).numbers(role(ir.DataType.INT64, rows=30), shape, generator) == 7).all()
    found = literals.together([17.0, 23.0]).numbers(role(ir.DataType.INT64), shape, generator)
    assert set(np.unique(found)) <= {0, 1, 2, 3, 4, 17, 20, 23}
    if len(shape) > 1:
        assert (np.count_nonzero(found[::3], axis=1) <= 1).all()


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


def test_two_sizes_of_which_the_code_names_one_are_tried_together():
    model = description.load(DENSE.replace("[batch, 6]", "[batch, length, 6]"))
    cases = Battery(model, {}, None, 0, True, frozenset([37.0])).cases(find(model, None, []))
    tried = {(case.sizes["batch"], case.sizes["length"]) for case in cases}
    assert {(37, 3), (5, 37), (37, 37)} <= tried


def test_a_normalization_of_equal_numbers_that_the_code_names_is_no_departure(tmp_path):
    """What is left of them is rounding, which each framework does in its own way."""
    torch = pytest.importorskip("torch")

    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.fc = torch.nn.LayerNorm(6), torch.nn.Linear(6, 2)

        def forward(self, x):
            return self.fc(self.norm(x).masked_fill(x > 2, -1e4).clamp(min=-9.0))

    torch.manual_seed(0)
    model = dlbridge.load(Masked().eval(), inputs={"x": "float32[batch,6]"})
    for target in ("pytorch", "keras"):
        model.write(target).save(tmp_path / target)
        assert "10000.0" in (tmp_path / target / "model.py").read_text()
        dlbridge.verify(model, tmp_path / target).require()
