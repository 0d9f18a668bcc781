"""The battery of inputs reaches what random numbers do not, and the report says what was not reached."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge import description
from dlbridge.verification import verify
from dlbridge.verification.inputs import battery
from dlbridge.verification.inputs.arrays import filled_inputs
from dlbridge.verification.inputs.battery import Battery
from dlbridge.verification.inputs.strategies import PLAIN, STRATEGIES
from dlbridge.verification.judge import find

BY_NAME = {strategy.name: strategy for strategy in STRATEGIES}
WORDS = """
dlbridge: 1
name: m
inputs: {ids: {dtype: int64, shape: [batch, steps]}, on: {dtype: bool, shape: [batch, steps]}}
nodes:
  - {name: embed, op: Embedding, from: ids, count: 50, size: 3}
  - {name: same, op: Not, from: on}
outputs: [embed, same]
"""


def filled(*names):
    strategies = [PLAIN if name == "plain" else BY_NAME[name] for name in names]
    return filled_inputs(description.load(WORDS), {"batch": len(names), "steps": 60}, strategies)


def test_rows_are_filled_by_their_strategies():
    arrays = filled("plain", "first and last rows", "counted", "on", "off", "ragged")
    assert set(arrays["ids"][1]) == {0, 49}
    assert arrays["ids"][2].tolist() == [i % 50 for i in range(60)]
    assert arrays["on"][3].all()
    assert not arrays["on"][4].any()
    assert (np.diff(arrays["on"][5].astype(int)) <= 0).all()
    assert arrays["ids"].min() >= 0  # an embedding has no row of a negative index
    assert arrays["ids"].max() <= 49


def of(function, **inputs):
    """The model of a function of a module, which has a linear layer, and of x."""

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(4, 4)

        def forward(self, x):
            return function(self, x)

    torch.manual_seed(0)
    return dlbridge.load(Module().eval(), inputs=inputs)


def _is_caught(model, find, replace, battery="quick"):
    written = model.write("pytorch")
    wrong = dataclasses.replace(written, text=written.text.replace(find, replace))
    assert wrong.text != written.text
    right = verify(model, routes=["pytorch"], written={"pytorch": written}, battery=battery)
    right.require()
    return not verify(model, routes=["pytorch"], written={"pytorch": wrong}, battery=battery).passed


def test_how_numbers_are_rounded_is_reached():
    model = of(lambda m, x: torch.round(x), x="float32[batch,4]")
    assert _is_caught(model, "torch.round(x)", "torch.floor(x + 0.5)")


def test_constants_that_a_graph_compares_with_are_reached():
    model = of(lambda m, x: torch.where(x > 100, 1.0, 2.0), x="int64[batch,4]")
    assert _is_caught(model, "x > 100", "x >= 100")


def test_the_last_row_of_a_table_is_reached():
    model = dlbridge.load(nn.Embedding(160, 4).eval(), inputs={"input": "int64[batch,4]"})
    faulty = model.clone()
    (name,) = faulty.weights
    rows = faulty.weights[name].copy()
    rows[-1] += 1
    faulty.set_weights({name: rows})
    report = verify(model, routes=["onnx"], written={"onnx": faulty.write("onnx")}, battery="quick")
    assert not report.passed


def test_negative_indices_are_reached_where_they_are_legal():
    text = """
dlbridge: 1
name: m
inputs: {rows: {dtype: float32, shape: [5, 3]}, ids: {dtype: int64, shape: [batch]}}
nodes:
  - {name: found, op: Gather, from: [rows, ids]}
outputs: [found]
"""
    report = _verified(description.load(text))
    assert any(check.inputs == "negative rows" for check in report.checks)


def test_a_size_of_one_is_reached():
    model = of(lambda m, x: x.sum(1) / x.shape[1], x="float32[batch,steps,4]")
    report_sizes = {c.sizes["steps"] for c in _verified(model).checks}
    assert {1, 2, 5, 6, 11} <= report_sizes


def test_inputs_of_a_single_number_are_reached():
    model = of(lambda m, x: x.sum(1), x="float32[batch,steps,length]")
    assert {"batch": 1, "steps": 1, "length": 1} in [c.sizes for c in _verified(model).checks]


def _verified(model):
    report = verify(model, routes=["onnx"])
    report.require()
    return report


def test_inputs_for_which_the_original_has_no_numbers_are_left_out():
    report = _verified(of(lambda m, x: torch.exp(m.line(x).abs() * 20), x="float32[batch,4]"))
    assert any("huge" in text and "not finite" in text for text in report.inputs_left_out)
    assert any(c.inputs == "small" for c in report.checks)


class Experts(nn.Module):
    """Hands each row to two of four layers, which ``torch.topk`` takes; of equal numbers it takes any."""

    def __init__(self, gate):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(4, 4, bias=False), gate)
        self.experts = nn.ModuleList([nn.Linear(4, 3) for _ in range(4)])

    def forward(self, x):
        weights, places = torch.topk(self.gate(x), 2, dim=-1)
        weights = weights.softmax(-1)
        rows = sum((weights * (places == i)).sum(-1, keepdim=True) * e(x) for i, e in enumerate(self.experts))
        rows = rows * (1 + 1e3 * x.abs().amax(-1, keepdim=True))  # those of zeros are small beside others
        return rows, rows.mean()


@pytest.mark.parametrize("gate", [nn.Identity(), nn.Softmax(-1)], ids=["of zeros", "of quarters"])
def test_rows_in_which_the_original_takes_any_of_equal_numbers_are_left_out(gate):
    torch.manual_seed(0)
    model = dlbridge.load(Experts(gate).eval(), inputs={"x": "float32[batch,4]"})
    sets = Battery(model, {}, None, 0, full=False)
    mixed = sets.cases(find(model, None, []))[-1]
    assert "zeros: rounding decides which numbers the judge takes" in sets.left_out
    assert "zeros" not in mixed.strategies
    assert {"ties", "large", "negative"} <= set(mixed.strategies)
    _verified(model)


def test_what_no_input_reaches_is_named():
    def either(m, x):
        y = torch.where(x > 1e9, m.line(x), x)
        return y + torch.relu(x - 1e9)

    report = _verified(of(either, x="float32[batch,4]"))
    (unreached,) = report.coverage.unreached
    assert "no input takes its first value" in unreached
    (dead,) = report.coverage.dead
    assert "gives 0 everywhere" in dead
    reached = _verified(of(lambda m, x: torch.where(x > 1, m.line(x), x), x="float32[batch,4]"))
    assert reached.coverage.unreached == []


def test_fewer_rows_are_tried_where_the_values_of_many_would_not_fit_into_memory(monkeypatch):
    model = of(lambda m, x: m.line(x), x="float32[batch,4]")
    for elements, expected in ((1 << 30, [1, 2, 9]), (4 * 5, [1, 2, 5]), (1, [1, 2, 2])):
        monkeypatch.setattr(battery, "_MOST_ELEMENTS", elements)
        cases = Battery(model, {}, None, 0, full=False).cases(find(model, None, []))
        assert [case.arrays["x"].shape[0] for case in cases] == expected


class Halves(nn.Module):
    """Takes multiples of 8, which it asserts where an export does not see it."""

    def forward(self, x):
        if not torch.compiler.is_compiling() and x.shape[2] % 8:
            raise ValueError(f"{x.shape[2]} is no multiple of 8")
        return x.relu()


def test_sizes_are_multiples_of_what_the_original_takes():
    report = verify(dlbridge.load(Halves(), inputs={"x": "float32[batch,3,h,w]"}), routes=["pytorch"])
    assert report.passed
    assert any("no multiples of 8" in line and "is no multiple of 8" in line for line in report.inputs_left_out)


class OverEdges(nn.Module):
    """The sum of what each node's neighbours say, with a loop at each node, as graph networks have it."""

    def forward(self, nodes, edges):
        loops = torch.arange(nodes.shape[0]).expand(2, -1)
        source, target = torch.cat([edges, loops], 1)
        return torch.zeros_like(nodes).index_add(0, target, nodes.index_select(0, source))


def test_edges_of_a_graph_are_between_its_nodes():
    model = dlbridge.load(OverEdges(), inputs={"nodes": "float32[nodes,4]", "edges": "int64[2,edges]"})
    report = verify(model, routes=["pytorch", "onnx", "keras"])
    assert report.passed
    assert any(case["edges"].max() > 1 for case in report.cases)


class OneTable(nn.Module):
    """A recommender that takes all of its features in one table of floats, and casts some of them to indices."""

    def __init__(self):
        super().__init__()
        self.item, self.line = nn.Embedding(5, 3), nn.Linear(4, 2)

    def forward(self, x):
        return self.line(torch.cat([self.item(x[:, :1].long())[:, 0], x[:, 1:]], 1))


def test_floats_that_are_cast_to_indices_stay_within_the_table():
    assert verify(dlbridge.load(OneTable(), inputs={"x": "float32[batch,2]"}), routes=["pytorch", "keras"]).passed
