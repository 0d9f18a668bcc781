"""lift.buckets: the buckets of relative positions that T5 computes are one RelativeBuckets."""

import math

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from dlbridge.model import Model
from dlbridge.passes import shapes
from dlbridge.passes.lift import lift

POSITIONS = np.arange(-300, 301, dtype=np.int64).reshape(1, -1)
BOTH = """after = Greater (p, zero) cast = Cast <to = 7> (after) side = Mul (cast, count) d = Abs (p)
    {within} y = Add (side, w)"""
ONE = "below = Min (p, zero) d = Neg (below) {within} y = Identity (w)"
WITHIN = """near = Less (d, exact) wide = Cast <to = 1> (d) ratio = Div (wide, exact_f) l = Log (ratio)
    part = Div (l, span) steps = Mul (part, exact_f) whole = Cast <to = 7> (steps) far = Add (whole, exact)
    capped = Min (far, last) w = Where (near, d, capped)"""


def model(body: str, exact: int = 8, limit: float = 128, **changed: float) -> Model:
    numbers = {"zero": 0, "count": 2 * exact, "exact": exact, "last": 2 * exact - 1} | {"exact_f": exact} | changed
    constants = [f"int64 {name} = {{{number}}}" for name, number in numbers.items() if name != "exact_f"]
    constants += [f"float exact_f = {{{numbers['exact_f']}}}", f"float span = {{{math.log(limit / exact)!r}}}"]
    text = f"""<ir_version: 10, opset_import: ["": 24]>
        g (int64[n,m] p) => (int64[n,m] y) <{", ".join(constants)}> {{ {body.format(within=WITHIN)} }}"""
    made = Model(ir.from_onnx_text(text))
    shapes.infer(made.ir)
    return made


def run(found: Model) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return ReferenceEvaluator(ir.to_proto(found.ir)).run(None, {"p": POSITIONS})[0]


def ops(found: Model) -> list[str]:
    return [node.op_type for node in found.graph if node.op_type != "Identity"]


@pytest.mark.parametrize(("exact", "limit"), [(8, 128), (16, 128), (4, 50), (1, 3)])
@pytest.mark.parametrize("body", [BOTH, ONE])
def test_buckets_are_one_op(body, exact, limit):
    whole = model(body, exact, limit)
    lifted = whole.clone()
    lift(lifted.ir)
    assert ops(lifted) == ["RelativeBuckets"]
    np.testing.assert_array_equal(run(lifted), run(whole))


@pytest.mark.parametrize(
    "changed",
    [
        {"count": 15},  # keys behind the query have other buckets
        {"last": 14},
        {"exact_f": 7},
        {"zero": 1},
        {"limit": 127.5},
    ],
)
def test_what_has_other_numbers_stays(changed):
    whole = model(BOTH, **changed)
    lifted = whole.clone()
    lift(lifted.ir)
    assert "RelativeBuckets" not in ops(lifted)
    np.testing.assert_array_equal(run(lifted), run(whole))


def test_distances_of_something_else_stay():
    text = BOTH.replace("d = Abs (p)", "r = Mul (p, p) d = Abs (r)")
    lifted = model(text)
    lift(lifted.ir)
    assert "RelativeBuckets" not in ops(lifted)
