"""How errors are measured: by the scale of their row or channel, by dtype, with what the judge itself owes."""

import ml_dtypes
import numpy as np
import pytest

from dlbridge.errors import IllConditionedError, VerificationError, WrittenModelError
from dlbridge.ops.evaluator import eps
from dlbridge.verification import Check, Report
from dlbridge.verification.measure import Allowance, measure, mismatch

PLAIN = Allowance(eps(np.float32), 10)


def one(output, judged, own=None, allowance=PLAIN):
    return measure([output], [judged], None if own is None else [own], allowance)[0]


def numbers(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(
    ("shape", "place"),
    [
        ((8, 5), (slice(None), 4)),  # a score beside coordinates, last axis
        ((2, 5, 6, 6), (slice(None), 4)),  # the same in channels
        ((4, 9), (2, slice(None))),  # a row of small numbers
        ((3, 4, 5), (1, slice(None), slice(None))),
    ],
)
def test_a_wrong_part_shows_beside_a_large_one(shape, place):
    judged = numbers(*shape) * 1000
    judged[place] = numbers(*judged[place].shape) * 0.01
    output = judged.copy()
    output[place] *= 1.0005  # far below the rounding of the large part
    assert np.abs(output - judged).max() < 1e-7 * np.abs(judged).max()
    assert not one(output, judged).fits
    assert one(judged, judged).fits


def test_a_single_small_number_is_measured_by_its_fellows():
    judged = numbers(7, 10)
    judged[0, 3] = 1e-9
    output = judged.copy()
    output[0, 3] = 3e-8
    assert one(output, judged).fits


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_the_bound_knows_the_type(dtype):
    judged = np.abs(numbers(6, 8)).astype(np.float64) + 1
    rounded = judged.astype(dtype)
    assert one(rounded, judged, rounded).fits
    assert not one((judged * (1 + 40 * eps(dtype))).astype(dtype) if dtype != np.float32 else
                   (judged * (1 + 400 * eps(dtype))).astype(dtype), judged, rounded).fits  # fmt: skip


def test_the_own_rounding_of_the_judge_is_allowed_and_no_more_than_type_and_depth_explain():
    judged = numbers(6, 8).astype(np.float64)
    wrong = (judged * 1.5).astype(np.float32)
    own = (judged * (1 + 1e-5)).astype(np.float32)
    assert one((judged * (1 + 2e-5)).astype(np.float32), judged, own, Allowance(PLAIN.eps, 100)).fits
    assert not one(wrong, judged, own).fits
    far = one(wrong, judged, (judged * 1.4).astype(np.float32))
    assert not far.fits  # a judge that is far from itself excuses nothing
    assert far.strained


def test_infinities_and_nan_are_where_the_judge_has_them():
    judged = np.array([1.0, np.inf, np.nan, -np.inf, 1e300])
    with np.errstate(over="ignore"):
        own = judged.astype(np.float32)  # 1e300 is infinite in float32
    assert one(own, judged, own).fits
    for place, value in ((0, np.nan), (1, -np.inf), (2, 0.0), (4, 1.0)):
        output = own.copy()
        output[place] = value
        assert not one(output, judged, own).fits, place


def test_numbers_below_the_smallest_normal_one_may_be_flushed():
    judged = numbers(4, 4).astype(np.float64) * 1e-42
    assert one(np.zeros((4, 4), np.float32), judged, judged.astype(np.float32)).fits
    judged = numbers(4, 4).astype(np.float64) * 1e-30
    assert not one(np.zeros((4, 4), np.float32), judged, judged.astype(np.float32)).fits


def test_integers_are_the_judges_in_its_own_types_or_in_float64():
    exact, own = np.array([3, 1, 2]), np.array([3, 1, 7])
    assert one(np.array([3, 1, 2]), exact, own).fits
    assert one(np.array([3, 1, 7]), exact, own).fits
    assert not one(np.array([3, 1, 5]), exact, own).fits
    assert one(np.array([3, 1, 5]), exact, own).message


def test_names_dtypes_and_shapes_of_outputs_are_compared():
    judged = {"y": numbers(2, 3)}
    assert not mismatch({"y": numbers(2, 3)}, judged)
    assert "shape (3, 2)" in mismatch({"y": numbers(3, 2)}, judged)["y"]
    assert "dtype float64" in mismatch({"y": numbers(2, 3, dtype=np.float64)}, judged)["y"]
    assert set(mismatch({"z": numbers(2, 3)}, judged)) == {"y", "z"}


# --- what a report says -----------------------------------------------------------------------------------------------


def test_a_failure_says_why_whatever_else_has_passed():
    failing = Check("onnx", {"batch": 1}, {"y": 1e-3}, 1e-5, False)
    passing = Check("onnx", {"batch": 2}, {"y": 2e-3}, 1e-2, True)
    for checks in ([failing, passing], [passing, failing]):
        with pytest.raises(VerificationError, match=r"onnx: error 1\.0e-03 at batch=1"):
            Report("m", checks=checks).require()


def test_a_report_without_a_check_has_not_passed_and_says_so():
    with pytest.raises(VerificationError, match="nothing was compared"):
        Report("m").require()


def test_what_cannot_run_and_what_rounding_hides_are_errors_of_their_own():
    with pytest.raises(WrittenModelError, match=r"(?s)cannot be built or run.*no such layer") as caught:
        Report("m", failures={"keras": "no such layer"}).require()
    assert "does not agree" not in str(caught.value)
    hidden = Check("keras", {}, {"y": 1.0}, 1e-4, False, "ill-conditioned: ...", ill_conditioned=True)
    with pytest.raises(IllConditionedError):
        Report("m", checks=[hidden]).require()
    departs = Check("keras", {}, {"y": 1.0}, 1e-4, False)
    with pytest.raises(VerificationError, match="does not agree"):
        Report("m", checks=[hidden, departs]).require()


def test_a_sigmoid_near_zero_is_as_exact_as_near_one():
    """Kernels of Sigmoid are exact to what a number below 1 rounds: onnxruntime's is a quarter off at 4e-8."""
    made, judged = np.full((2, 1), 3e-8, np.float32), np.full((2, 1), 4e-8)
    assert not one(made, judged, allowance=Allowance(eps(np.float32), 3)).fits
    assert one(made, judged, allowance=Allowance(eps(np.float32), 3, of_one=True)).fits
    assert not one(
        (judged + 1e-6).astype(np.float32), judged, allowance=Allowance(eps(np.float32), 3, of_one=True)
    ).fits
