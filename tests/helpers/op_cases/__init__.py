"""A case for each attribute that changes what an op means: plain data, shared by the tests of all writers.

Each family of rules has a file here.
"""

from __future__ import annotations

from tests.helpers.op_cases import (
    attention,
    convolution,
    elementwise,
    indexing,
    integers,
    linear,
    normalization,
    pooling,
    quantization,
    ranks,
    recurrent,
    reduction,
    regions,
    resize,
    shape,
)
from tests.helpers.op_cases.case import Case

_FAMILIES = (
    *(linear, convolution, normalization, recurrent, attention, pooling, shape, resize, elementwise, reduction),
    *(indexing, quantization, integers, ranks, regions),
)

CASES: list[Case] = [case for family in _FAMILIES for case in family.cases()]
