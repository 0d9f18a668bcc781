"""Elementwise operators: Python's, and functions of ``jnp`` where it has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.nnx.rules import NNX, cast, nnx_dtype, quoted_dtype, rules
from dlbridge.source.arrays.elementwise import is_tensor, is_uint64, operands
from dlbridge.source.arrays.quantization import quantize
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call, code


@rules("Div")
def divide(op: Op) -> Code:
    if op.dtype().is_floating_point():
        return code("{} / {}", *operands(op))
    values = op.value(0), op.value(1)
    is_constant = any(value is not None and value.is_initializer() for value in values)
    if op.shape(0) is not None and op.shape(0) == op.shape(1) and not is_constant:
        return call("jax.lax.div", *values)
    # lax.div takes one shape and one dtype; a constant is int64 beside an input that JAX, by default, makes int32.
    first, second = [op[0], op[1]] if is_uint64(op) else operands(op)  # Python's numbers beyond int64 are none of JAX
    return code("({first} - {}) // {second}", call("jnp.fmod", first, second), first=first, second=second)


@rules("Mod")
def modulo(op: Op) -> Code:
    return call("jnp.fmod", op[0], op[1]) if op.attr("fmod") else code("{} % {}", *operands(op))


@rules("Pow")
def power(op: Op) -> Code:
    """The result has the base's dtype, whatever the exponent's is."""
    base, exponent, number = op.dtype(0), op.dtype(1), op.operand(1)
    if not is_tensor(number) and base.is_floating_point():
        whole = isinstance(number, Code) or float(number).is_integer()
        number = int(number) if whole and not isinstance(number, Code) else number
        return code("{} ** {exponent}", op.x, exponent=number)
    if base == exponent or (base.is_floating_point() and exponent.is_integer()):
        return call("jnp.power", op[0], op[1])
    if exponent.is_integer() or base.is_floating_point():
        return call("jnp.power", op[0], NNX.in_dtype(op, op[1], base))
    return NNX.in_dtype(op, call("jnp.power", NNX.in_dtype(op, op[0], exponent), op[1]))


@rules("BitShift")
def shift(op: Op) -> Code:
    left, width = op.attr("direction") == "LEFT", op.dtype().bitwidth
    count = op.const(1)
    if count is not None and np.all((count >= 0) & (count < width)):
        return code(f"{{}} {'<<' if left else '>>'} {{}}", *operands(op))
    return call("shift_left" if left else "shift_right", op[0], op[1], width)


@rules("Clip")
def clip(op: Op) -> Code:
    low, high = (op.operand(i) if op.has(i) else None for i in (1, 2))
    if low is None and high is None:
        return code("{}", op.x)
    if op.dtype().is_floating_point() and [op.scalar(i) if op.has(i) else None for i in (1, 2)] == [0, 6]:
        return call("nnx.relu6", op.x)
    return call("jnp.clip", op.x, min=low, max=high)


# --- dtypes --------------------------------------------------------------------------------------------------------

_FLOAT8 = {ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2}
#: Types to which JAX rounds otherwise than the standard.
_OTHERWISE = {ir.DataType.FLOAT8E4M3FNUZ, ir.DataType.FLOAT8E5M2FNUZ, ir.DataType.FLOAT8E8M0}
#: Types of which a float beyond the range becomes the last number in JAX; of an integer, the low bits are kept.
_FEW_BITS = {ir.DataType.INT2, ir.DataType.UINT2, ir.DataType.INT4, ir.DataType.UINT4}


@rules("Cast", "CastLike")
def to_dtype(op: Op) -> Code:
    source, target = op.dtype(), op.out_dtype()
    nnx_dtype(op, source)
    if source == target:
        return code("{}", op.x)
    _require_standard_rounding(op, target)
    if target in _FLOAT8:
        return call("float8_cast", op.x, quoted_dtype(op, target), saturate=None if op.attr("saturate") else False)
    x = cast(op.x, nnx_dtype(op, ir.DataType.INT32)) if target in _FEW_BITS and source.is_floating_point() else op.x
    return cast(x, nnx_dtype(op, target))


@rules("QuantizeLinear")
def quantize_linear(op: Op) -> Code:
    _require_standard_rounding(op, op.out_dtype())
    return quantize(op, replace(NNX, dtype=quoted_dtype))


def _require_standard_rounding(op: Op, target: ir.DataType) -> None:
    if target in _OTHERWISE:
        op.refuse(f"JAX rounds to {target.name} otherwise than the standard")
