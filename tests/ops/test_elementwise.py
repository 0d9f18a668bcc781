"""Whoever adds an elementwise op says so where layout and shape inference ask: else its code has idle transposes."""

from dlbridge.ops import extension, special
from dlbridge.ops.elementwise import BROADCASTING_OPS, UNARY_OPS
from dlbridge.source.arrays.activation import activation
from dlbridge.source.arrays.elementwise import elementwise, operators

#: Ops of these families that work along an axis, on a matrix or on halves.
_OTHERS = {"Det", "Softmax", "LogSoftmax", "SwiGLU"}


def test_what_is_written_as_an_elementwise_function_is_known_as_one():
    written = {op for family in (elementwise, operators, activation) for domain, op in family.table if not domain}
    unknown = sorted(written - UNARY_OPS - BROADCASTING_OPS - _OTHERS)
    assert not unknown, f"name them in dlbridge/ops/elementwise.py: {unknown}"


def test_an_extension_op_is_elementwise_where_its_body_is():
    found = set(extension.elementwise_ops())
    assert {"FakeQuantize", *special.FUNCTIONS} <= found
    assert not found & {"Linear", "Embedding", "CausalMask", "RotateHalves", *extension.TRAINING_ONLY_OPS}
