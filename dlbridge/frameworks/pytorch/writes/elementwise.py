"""Elementwise operators: Python operators where PyTorch has them, functions where not."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.frameworks.pytorch.rules import rules, torch_dtype
from dlbridge.source.arrays.elementwise import is_tensor, is_uint64, operands
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, call, code


@rules("Div")
def divide(op: Op) -> Code:
    if is_uint64(op):
        return code("{}[0]", call("divide_uint64", op[0], op[1]))
    if op.dtype().is_integer():
        return call("torch.div", op.x, op.operand(1), rounding_mode="trunc")
    return code("{} / {}", *operands(op))


@rules("Mod")
def modulo(op: Op) -> Code:
    if is_uint64(op):
        return code("{}[1]", call("divide_uint64", op[0], op[1]))
    if op.attr("fmod"):
        return call("torch.fmod", op.x, op.operand(1))
    return code("{} % {}", *operands(op))


@rules("Pow")
def power(op: Op) -> Code:
    """The result has the base's dtype, whatever the exponent's is."""
    base, exponent = op.dtype(0), op.dtype(1)
    number = op.operand(1)
    if not is_tensor(number) and base.is_floating_point():
        whole = isinstance(number, Code) or float(number).is_integer()
        number = int(number) if whole and not isinstance(number, Code) else number
        return code("{} ** {exponent}", op.x, exponent=number)
    result = call("torch.pow", op.x, op[1])
    same = base == exponent or (base.is_floating_point() and exponent.is_integer())
    return result if same else code("{}.to({})", result, torch_dtype(op, base))


@rules("BitShift")
def shift(op: Op) -> Code:
    if is_uint64(op) and op.attr("direction") == "RIGHT":
        return call("shift_right_uint64", op[0], op[1])
    symbol = "<<" if op.attr("direction") == "LEFT" else ">>"
    return code(f"{{}} {symbol} {{}}", *operands(op))


@rules("Max", "Min")
def extreme(op: Op) -> Code:
    name = "maximum" if op.key == "Max" else "minimum"
    result = op.x
    for index in range(1, len(op.node.inputs)):
        limit = op.operand(index)
        if is_tensor(limit) or isinstance(limit, Code):
            result = call(f"torch.{name}", result, op[index])
        else:
            result = call("torch.clamp", result, **{"min" if name == "maximum" else "max": limit})
    return code("{}", result)


@rules("Clip")
def clip(op: Op) -> Emit | Code:
    if op.dtype().is_floating_point() and [op.scalar(i) if op.has(i) else None for i in (1, 2)] == [0, 6]:
        return Emit(call("F.relu6", op.x), module=Layer(call("nn.ReLU6")))
    limits = {"min": 1, "max": 2}
    given = {name: op.operand(i) for name, i in limits.items() if op.has(i)}
    if not given:
        return code("{}", op.x)
    if any(is_tensor(v) for v in given.values()):
        given = {name: op[limits[name]] for name in given}
    if len(given) == 2:
        return call("torch.clamp", op.x, given["min"], given["max"])
    return call("torch.clamp", op.x, **given)


# --- dtypes --------------------------------------------------------------------------------------------------------

_FLOAT8 = {
    ir.DataType.FLOAT8E4M3FN,
    ir.DataType.FLOAT8E4M3FNUZ,
    ir.DataType.FLOAT8E5M2,
    ir.DataType.FLOAT8E5M2FNUZ,
}


@rules("Cast", "CastLike")
def cast(op: Op) -> Code:
    source, target = op.dtype(), op.out_dtype()
    dtype = torch_dtype(op, target)
    torch_dtype(op, source)
    if source == target:
        return code("{}", op.x)
    if target in _FLOAT8:
        return call("float8_cast", op.x, dtype, saturate=None if op.attr("saturate") else False)
    if target == ir.DataType.FLOAT8E8M0 and op.attr("round_mode", "up") != "nearest":
        return call("cast_to_power_of_two", op.x, up=op.attr("round_mode", "up") == "up")
    return code("{}.to({})", op.x, dtype)


@rules("BitCast")
def bit_cast(op: Op) -> Code:
    torch_dtype(op, op.dtype())
    return code("{}.view({})", op.x, torch_dtype(op, op.out_dtype()))
