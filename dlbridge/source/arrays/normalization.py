"""Normalisations that are functions of arrays, channels-last."""

from __future__ import annotations

from dlbridge.passes.layout import DOMAIN
from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.code import Code, call
from dlbridge.source.op import Op

normalization = Family()


@normalization("LRN", domain=DOMAIN)
@normalization("LRN")
def local_response_norm(op: Op, arrays: ArrayDialect) -> Code:
    usual = {"alpha": 1e-4, "beta": 0.75, "bias": 1}
    keywords = {name: op.attr(name) for name, value in usual.items() if op.attr(name) != value}
    return call("local_response_norm", op.x, op.attr("size"), **keywords)


@normalization("MeanVarianceNormalization")
def mean_variance_normalization(op: Op, arrays: ArrayDialect) -> Code:
    return call("standardize", op.x, tuple(op.attr("axes")))
