"""Rows of a table in which a form under test has other numbers are read."""

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

import dlbridge
from dlbridge.verification.inputs import suspicions

TEXT = """<ir_version: 8, opset_import: ["": 18]>
net (int64[N, 2] ids, float[N, 3] x) => (float[N, 2, 3] y, float[N, 2] z) {
    y = Gather(table, ids)
    z = MatMul(x, weight)
}"""


def net(path, change=lambda table: None):
    proto = onnx.parser.parse_model(TEXT)
    generator = np.random.default_rng(0)
    arrays = {"table": generator.random((30000, 3), np.float32), "weight": generator.random((3, 2), np.float32)}
    change(arrays["table"])
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.save(proto, path)
    return dlbridge.load(path)


def test_the_rows_that_differ_are_found(tmp_path):
    def change(table):
        table[17, 2] += 1
        table[29999] = np.nan

    rows = suspicions.unlike_rows(net(tmp_path / "a.onnx"), [net(tmp_path / "b.onnx", change)])
    assert {name: found.tolist() for name, found in rows.items()} == {"ids": [17, 29999]}


@pytest.mark.parametrize("change", [lambda table: None, lambda table: table.fill(1)])
def test_equal_tables_and_other_tables_say_nothing(change, tmp_path):
    assert not suspicions.unlike_rows(net(tmp_path / "a.onnx"), [net(tmp_path / "b.onnx", change)])


def test_one_number_of_a_large_table_is_found(tmp_path):
    def change(table):
        table[23456, 1] += 0.1

    model, other = net(tmp_path / "a.onnx"), net(tmp_path / "b.onnx", change)
    report = dlbridge.verify(model, other)
    assert "rows that differ" in [check.inputs for check in report.checks if not check.passed]
    (departure,) = report.departures.values()
    assert departure.op == "Embedding"
