"""A model that generates is compared in steps with the whole: a cache that is not read is found."""

from __future__ import annotations

import onnx_ir as ir

import dlbridge
from dlbridge.decoding import Settings
from dlbridge.ops import traits
from dlbridge.verification import verify
from dlbridge.verification.stepping import NAME
from tests.helpers.onnx_text import save_graph

_SIGNATURE = """(int64[batch, seq] input_ids, int64[batch, total] attention_mask, float[batch, 1, past, 1] behind)
    => (float[batch, seq, 1] logits, float[batch, 1, total, 1] all)"""
_NAMES = {"behind": "past_key_values.0.key", "all": "present.0.key"}
#: The sum of all tokens that count, up to each.
_BODY = """
    tokens = Cast<to = 1>(input_ids)
    axes = Constant<value_ints = [1, 3]>()
    new = Unsqueeze(tokens, axes)
    all = Concat<axis = 2>(behind, new)
    flat = Squeeze(all, axes)
    counted = Cast<to = 1>(attention_mask)
    product = Mul(flat, counted)
    one = Constant<value_int = 1>()
    sums = CumSum(product, one)
    begin = Shape<start = 2, end = 3>(behind)
    end = Constant<value_ints = [1000]>()
    which = Constant<value_ints = [1]>()
    last = Slice(sums, begin, end, which)
    deep = Constant<value_ints = [2]>()
    logits = Unsqueeze(last, deep)
"""


def counting(path, body=_BODY):
    model = dlbridge.load(save_graph(path / "model.onnx", _SIGNATURE, body), rename=_NAMES)
    model.inputs[1].shape = ir.Shape(["batch", "past + seq"])
    model.outputs[0].shape = ir.Shape(["batch", "seq", 1])
    model.outputs[1].shape = ir.Shape(["batch", 1, "past + seq", 1])
    traits.set_constraints(model.graph, ["0 <= past"])
    model.graph.metadata_props[traits.GENERATION] = Settings().dumps()
    return model


def steps_of(report):
    return [check for check in report.checks if check.inputs == NAME]


def test_a_model_is_run_in_steps(tmp_path):
    report = verify(counting(tmp_path), routes=["onnx"], battery="quick")
    (check,) = steps_of(report)
    assert report.passed and check.sizes["past"] == 0 and max(check.errors.values()) == 0


def test_a_cache_that_is_not_read_is_found(tmp_path):
    lost = """
        zero = Constant<value_float = 0.0>()
        gone = Mul(behind, zero)
        kept = Concat<axis = 2>(gone, new)
        flat = Squeeze(kept, axes)"""
    body = _BODY.replace("flat = Squeeze(all, axes)", lost)
    report = verify(counting(tmp_path, body=body), routes=["onnx"], battery="quick")
    assert not report.passed
    assert [check.passed for check in report.checks] == [True, True, True, False]
    assert not steps_of(report)[0].passed


def test_a_model_that_was_not_read_to_generate_is_not_run_in_steps(tmp_path):
    model = counting(tmp_path)
    del model.graph.metadata_props[traits.GENERATION]
    assert not steps_of(verify(model, routes=["onnx"], battery="quick"))
