"""Products of matrices, by Python's operators."""

from __future__ import annotations

from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, code

linear = Family()


@linear("MatMul")
def matmul(op: Op, arrays: ArrayDialect) -> Code:
    return code("{} @ {}", op[0], op[1])


@linear("Gemm")
def gemm(op: Op, arrays: ArrayDialect) -> Code:
    left = code("{}.T", op[0]) if op.attr("transA") else op[0]
    right = code("{}.T", op[1]) if op.attr("transB") else op[1]
    alpha, beta = _number(op, "alpha"), _number(op, "beta")
    product = code("{} @ {}", left, right)
    if alpha != 1:
        product = code("{alpha} * ({})", product, alpha=alpha)
    if op.has(2) and beta != 0:
        product = code("{} + {}", product, op[2] if beta == 1 else code("{beta} * {}", op[2], beta=beta))
    is_fractional = isinstance(alpha, float) or isinstance(beta, float)
    return arrays.in_dtype(op, product) if op.dtype().is_integer() and is_fractional else product


def _number(op: Op, name: str) -> float | int:
    """A factor; of integers, as an integer where it is one."""
    value = op.attr(name)
    return int(value) if op.dtype().is_integer() and value == int(value) else value


@linear("Einsum")
def einsum(op: Op, arrays: ArrayDialect) -> Code:
    return arrays.call("einsum", op.attr("equation").replace(" ", ""), *op.tensors)
