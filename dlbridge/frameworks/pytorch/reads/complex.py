"""Complex numbers, which ONNX' ops do not support: pairs (real, imaginary) along a further last axis."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import is_float, sizes, with_sizes
from dlbridge.frameworks.pytorch.graph.complex_pairs import is_complex, joined, parts
from dlbridge.frameworks.pytorch.graph.reading import RULES, Op, reads, reads_complex
from dlbridge.ops.formulas import atan2

#: Ops that only rearrange elements, and are applied to the real and the imaginary part.
_MOVING = (
    *("view", "_unsafe_view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "permute", "transpose", "t"),
    *("expand", "expand_as", "repeat", "tile", "flip", "roll", "slice", "select", "narrow", "index_select"),
    *("index", "split", "split_with_sizes", "chunk", "unbind", "cat", "stack", "alias", "clone", "contiguous"),
    *("detach", "lift_fresh_copy", "neg", "sum", "mean", "cumsum"),
)


@reads_complex("aten.view_as_complex", "aten.view_as_real", "aten.resolve_conj", "aten.resolve_neg")
def as_it_is(op: Op, x: ir.Value) -> ir.Value:
    return op("Identity", x)


@reads_complex("aten.complex")
def of_parts(op: Op, real: ir.Value, imaginary: ir.Value) -> ir.Value:
    return joined(op, *(op("Expand", p, op.sizes) for p in (real, imaginary)))


@reads_complex("aten.polar")
def polar(op: Op, size: ir.Value, angle: ir.Value) -> ir.Value:
    return joined(op, size * op("Cos", angle), size * op("Sin", angle))


@reads_complex("aten._to_copy", "aten.to", "prims.convert_element_type")
def converted(op: Op, x: ir.Value, *rest: Any, **options: Any) -> ir.Value:
    """Cast between real and complex: a real tensor gets an imaginary part of zeros, a complex one loses its own."""
    real, imaginary = parts(op, x)
    if not op.val.is_complex():
        return op.cast(real)
    return joined(op, *(op("Expand", op.cast(p), op.sizes) for p in (real, imaginary)))


@reads_complex("aten.copy")
def copied(op: Op, x: ir.Value, source: ir.Value, non_blocking: bool = False) -> ir.Value:
    return converted(op, source)


@reads_complex("aten.real", "aten.imag")
def one_part(op: Op, x: ir.Value) -> ir.Value:
    return op("Identity", parts(op, x)[0 if op.name == "real" else 1])


@reads_complex("aten.conj", "aten._conj", "aten.conj_physical", "aten._conj_physical")
def conjugate(op: Op, x: ir.Value) -> ir.Value:
    real, imaginary = parts(op, x)
    return joined(op, real, -imaginary)


def _square_of_size(op: Op, real: ir.Value, imaginary: ir.Value) -> ir.Value:
    return real * real + imaginary * imaginary


@reads_complex("aten.abs")
def absolute(op: Op, x: ir.Value) -> ir.Value:
    return op("Sqrt", _square_of_size(op, *parts(op, x)))


@reads_complex("aten.angle")
def angle(op: Op, x: ir.Value) -> ir.Value:
    real, imaginary = parts(op, x)
    return atan2(op, imaginary, real)


@reads_complex("aten.mul")
def multiply(op: Op, x: Any, y: Any) -> ir.Value:
    (a, b), (c, d) = parts(op, x), parts(op, y)
    for number, (real, imaginary) in ((x, (c, d)), (y, (a, b))):
        if isinstance(number, ir.Value) and not is_complex(number):
            scale = op.cast(number)
            return joined(op, real * scale, imaginary * scale)
    return joined(op, a * c - b * d, a * d + b * c)


@reads_complex("aten.add", "aten.sub")
def add(op: Op, x: Any, y: Any, *, alpha: Any = 1) -> ir.Value:
    sums = []
    for a, b in zip(parts(op, x), parts(op, y), strict=True):
        made = op(op.name.capitalize(), a, b if alpha == 1 else b * alpha)
        sums.append(made if is_complex(x) and is_complex(y) else op("Expand", made, op.sizes))
    return joined(op, *sums)


@reads_complex("aten.div")
def divide(op: Op, x: Any, y: Any) -> ir.Value:
    (a, b), (c, d) = parts(op, x), parts(op, y)
    if isinstance(y, (int, float)) or (isinstance(y, ir.Value) and not is_complex(y)):
        return joined(op, a / c, b / c)
    size = _square_of_size(op, c, d)
    real = a * c + b * d
    imaginary = b * c - a * d
    return joined(op, real / size, imaginary / size)


@reads_complex("aten.exp")
def exponential(op: Op, x: ir.Value) -> ir.Value:
    real, imaginary = parts(op, x)
    return polar(op, op("Exp", real), imaginary)


@reads_complex(*(f"aten.{name}" for name in _MOVING))
def moved(op: Op, *args: Any, **options: Any) -> Any:
    """Apply the rule for real tensors to each part."""
    rule = RULES[f"aten.{op.name}"]

    def part(value: Any, index: int) -> Any:
        if isinstance(value, (list, tuple)):
            return [part(v, index) for v in value]
        if isinstance(value, ir.Value) and not is_complex(value) and is_float(value):
            return op.refuse(f"{op.name} of complex and real numbers")
        return parts(op, value)[index] if is_complex(value) else value

    real, imaginary = (rule(op, *part(args, i), **{k: part(v, i) for k, v in options.items()}) for i in (0, 1))
    if isinstance(real, list):
        return [joined(op, r, i) for r, i in zip(real, imaginary, strict=True)]
    return joined(op, real, imaginary)


@reads_complex("aten.pad", "aten.constant_pad_nd")
def padded(op: Op, x: ir.Value, pad: list[Any], *rest: Any, **options: Any) -> ir.Value:
    """Pad each part, with the part of the number that is put around it."""
    rule = RULES[f"aten.{op.name}"]
    mode = {"mode": rest[0] if rest else options.get("mode", "constant")} if op.name == "pad" else {}
    given = options.get("value", rest[-1] if rest and not isinstance(rest[-1], str) else None)
    number = complex(given or 0)
    halves = zip(parts(op, x), (number.real, number.imag), strict=True)
    return joined(op, *(rule(op, part, pad, value=value, **mode) for part, value in halves))


@reads_complex("aten.zeros", "aten.zeros_like", "aten.new_zeros", "aten.empty", "aten.empty_like", "aten.new_empty")
@reads_complex("aten.ones", "aten.ones_like", "aten.new_ones", "aten.full", "aten.full_like", "aten.new_full")
def filled(op: Op, *args: Any, **options: Any) -> ir.Value:
    number = complex("ones" in op.name)
    if "full" in op.name:
        number = complex(options.get("fill_value", args[-1]))
    return joined(op, *(op("Expand", op.constant(n, op.dtype), op.sizes) for n in (number.real, number.imag)))


# --- products ------------------------------------------------------------------------------------------------------


@reads_complex("aten.mm", "aten.bmm", "aten.matmul", "aten.mv", "aten.dot")
def product(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    """Apply the rule for real tensors to the parts."""
    rule = RULES[f"aten.{op.name}"]
    return _of_parts(op, [x, y], lambda given: rule(op, *given))


@reads_complex("aten.einsum")
def einsum(op: Op, equation: str, tensors: list[ir.Value], *, path: Any = None) -> ir.Value:
    return _of_parts(op, tensors, lambda given: RULES["aten.einsum"](op, equation, given))


@reads_complex("aten.linear")
def linear(op: Op, x: ir.Value, weight: ir.Value, bias: ir.Value | None = None) -> ir.Value:
    made = _of_parts(op, [x, weight], lambda given: RULES["aten.linear"](op, *given))
    return made if bias is None else add_parts(op, made, bias)


@reads_complex("aten.addmm", "aten.baddbmm", "aten.addmv")
def added_product(op: Op, x: ir.Value, a: ir.Value, b: ir.Value, *, beta: Any = 1, alpha: Any = 1) -> ir.Value:
    if (beta, alpha) != (1, 1):
        op.refuse("weighted sums of complex products")
    return add_parts(op, _of_parts(op, [a, b], lambda given: op("MatMul", *given)), x)


def add_parts(op: Op, x: ir.Value, y: ir.Value) -> ir.Value:
    """x + y of complex tensors; x has the shape of the sum."""
    (a, b), (c, d) = x.meta["parts"], parts(op, y)
    return joined(op, a + c, b + d if is_complex(y) else b)


def _of_parts(op: Op, factors: list[ir.Value], multiply: Any) -> ir.Value:
    """A product of complex and real factors: one of each choice of their parts, times i for each imaginary one."""
    choices: list[tuple[int, list[ir.Value]]] = [(0, [])]
    for factor in factors:
        of = list(enumerate(parts(op, factor))) if is_complex(factor) else [(0, op.cast(factor))]
        of = [(turn, with_sizes(part, sizes(factor))) for turn, part in of]
        choices = [(turns + turn, [*given, part]) for turns, given in choices for turn, part in of]
    sums: list[ir.Value | None] = [None, None]
    for turns, given in choices:
        made, place, negative = multiply(given), turns % 2, turns % 4 in (2, 3)
        total = sums[place]
        if total is None:
            sums[place] = -made if negative else made
        else:
            sums[place] = op("Sub" if negative else "Add", total, made)
    real, imaginary = sums
    assert real is not None and imaginary is not None
    return joined(op, real, imaginary)


@reads_complex("aten.reciprocal")
def reciprocal(op: Op, x: ir.Value) -> ir.Value:
    real, imaginary = parts(op, x)
    size = _square_of_size(op, real, imaginary)
    return joined(op, real / size, -(imaginary / size))


@reads_complex("aten.log")
def logarithm(op: Op, x: ir.Value) -> ir.Value:
    return joined(op, op("Log", absolute(op, x)), angle(op, x))


@reads_complex("aten.pow")
def power(op: Op, x: ir.Value, exponent: Any) -> ir.Value:
    """Compute by absolute value and angle."""
    if isinstance(exponent, ir.Value) or not is_complex(x) or isinstance(exponent, complex):
        op.refuse("complex exponents")
    if exponent == 2:
        return multiply(op, x, x)
    length, turned = op("Pow", absolute(op, x), float(exponent)), angle(op, x) * float(exponent)
    return polar(op, length, turned)


@reads_complex("aten.sqrt")
def root(op: Op, x: ir.Value) -> ir.Value:
    return power(op, x, 0.5)


@reads_complex("aten.where")
def where(op: Op, condition: ir.Value, x: Any, y: Any) -> ir.Value:
    chosen = [op("Where", condition, a, b) for a, b in zip(parts(op, x), parts(op, y), strict=True)]
    return joined(op, *(op("Expand", c, op.sizes) for c in chosen))


reads("aten.real")(as_it_is)
