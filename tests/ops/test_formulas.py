"""Python's operators on values, and the types of numbers among the inputs of an op."""

import threading

import onnx_ir as ir
import pytest

from dlbridge.ops import element_types
from dlbridge.ops.formulas import arithmetic_of


class Nodes:
    """Makes no nodes: says which."""

    def __init__(self):
        self.made = []

    def __call__(self, op_type, *inputs):
        self.made.append(op_type)
        return value()


def value(dtype=ir.DataType.FLOAT):
    return ir.Value(type=ir.TensorType(dtype))


def test_operators_make_nodes_in_the_order_in_which_python_computes():
    nodes, x = Nodes(), value()
    with arithmetic_of(nodes):
        1 / (-x * 2 + x - 3)
    assert nodes.made == ["Neg", "Mul", "Add", "Sub", "Div"]


def test_the_rule_that_is_read_within_another_has_its_own_nodes():
    outer, inner, x = Nodes(), Nodes(), value()
    with arithmetic_of(outer):
        with arithmetic_of(inner):
            x + x
        x - x
    assert (outer.made, inner.made) == (["Sub"], ["Add"])


def test_outside_of_a_rule_operators_are_an_error():
    with pytest.raises(LookupError):
        value() + value()


def test_another_thread_reads_nothing_of_this_one():
    found = []

    def add():
        try:
            value() + value()
        except LookupError as error:
            found.append(error)

    with arithmetic_of(Nodes()):
        thread = threading.Thread(target=add)
        thread.start()
        thread.join()
    assert found


FLOAT, INT32, INT64, BOOL = ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL


@pytest.mark.parametrize(
    ("op_type", "inputs", "index", "dtype"),
    (
        ("Where", [value(BOOL), 0, value(FLOAT)], 1, FLOAT),
        ("Where", [value(BOOL), value(INT32), 0], 2, INT32),
        ("Gather", [value(FLOAT), 0], 1, INT64),
        ("Gather", [value(INT32), 0], 1, INT64),
        ("CumSum", [value(FLOAT), 0], 1, INT64),
        ("Range", [0, value(INT64), 1], 0, INT64),
        ("Pow", [2, value(FLOAT)], 0, FLOAT),
        ("Pad", [value(INT32), value(INT64), 0], 2, INT32),
        ("Acme", [value(INT32), 0], 1, INT32),
        ("Range", [0, 5, 1], 0, None),
    ),
)
def test_a_number_is_of_the_type_that_the_op_asks_for(op_type, inputs, index, dtype):
    assert element_types.of_number(op_type, index, inputs) == dtype
