"""Complex numbers, of which the standard's ops have none: pairs (real, imaginary) along one more axis at the end."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.pytorch.reading import (
    RULES,
    Op,
    is_float,
    numel,
    rank,
    reads,
    reads_complex,
    sizes,
    with_sizes,
)
from dlbridge.frameworks.pytorch.reads.elementwise import atan2

Pair = tuple[ir.Value, ir.Value]

#: Ops that put elements in other places: what they do to a complex tensor they do to both its parts.
_MOVING = (
    *("view", "_unsafe_view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "permute", "transpose", "t"),
    *("expand", "expand_as", "repeat", "tile", "movedim", "flip", "roll", "slice", "select", "narrow", "index_select"),
    *("index", "split", "split_with_sizes", "chunk", "unbind", "cat", "stack", "alias", "clone", "contiguous"),
    *("detach", "lift_fresh_copy", "neg", "sum", "mean", "cumsum"),
)


def is_complex(x: Any) -> bool:
    return isinstance(x, ir.Value) and bool(x.meta.get("complex"))


def parts(op: Op, x: Any) -> Pair:
    """(real, imaginary) of a tensor or a number; the imaginary part of what is real is 0."""
    if not isinstance(x, ir.Value):
        x = complex(x)
        return op.constant(x.real, op.dtype), op.constant(x.imag, op.dtype)
    if not is_complex(x):
        return op.cast(x, op.dtype), op.number(0, op.dtype)
    if "parts" not in x.meta:
        x.meta["parts"] = [op("Gather", x, op.number(i, ir.DataType.INT64), axis=-1) for i in (0, 1)]
    real, imaginary = (with_sizes(p, sizes(x)) for p in x.meta["parts"])
    return real, imaginary


def joined(op: Op, real: ir.Value, imaginary: ir.Value) -> ir.Value:
    """A complex tensor of its parts, which it remembers."""
    made = op("Concat", *(op("Unsqueeze", p, [-1]) for p in (real, imaginary)), axis=-1)
    made.meta["parts"] = (real, imaginary)
    return made


@reads_complex("aten.view_as_complex", "aten.view_as_real", "aten.resolve_conj", "aten.resolve_neg")
def as_it_is(op: Op, x: ir.Value) -> ir.Value:
    return op("Identity", x)


@reads_complex("aten.complex")
def of_parts(op: Op, real: ir.Value, imaginary: ir.Value) -> ir.Value:
    return joined(op, *(op("Expand", p, op.sizes) for p in (real, imaginary)))


@reads_complex("aten.polar")
def polar(op: Op, size: ir.Value, angle: ir.Value) -> ir.Value:
    return joined(op, op("Mul", size, op("Cos", angle)), op("Mul", size, op("Sin", angle)))


@reads_complex("aten._to_copy", "aten.to", "prims.convert_element_type")
def converted(op: Op, x: ir.Value, *rest: Any, **options: Any) -> ir.Value:
    """A real tensor gets an imaginary part of zeros; a complex one that is made real loses its own."""
    real, imaginary = parts(op, x)
    if not op.val.is_complex():
        return op.cast(real, op.dtype)
    return joined(op, *(op("Expand", op.cast(p, op.dtype), op.sizes) for p in (real, imaginary)))


@reads_complex("aten.real", "aten.imag")
def one_part(op: Op, x: ir.Value) -> ir.Value:
    return op("Identity", parts(op, x)[0 if op.name == "real" else 1])


@reads_complex("aten.conj", "aten._conj", "aten.conj_physical", "aten._conj_physical")
def conjugate(op: Op, x: ir.Value) -> ir.Value:
    real, imaginary = parts(op, x)
    return joined(op, real, op("Neg", imaginary))


@reads_complex("aten.abs")
def absolute(op: Op, x: ir.Value) -> ir.Value:
    real, imaginary = parts(op, x)
    return op("Sqrt", op("Add", op("Mul", real, real), op("Mul", imaginary, imaginary)))


@reads_complex("aten.angle")
def angle(op: Op, x: ir.Value) -> ir.Value:
    real, imaginary = parts(op, x)
    return atan2(op, imaginary, real)


@reads_complex("aten.mul")
def multiply(op: Op, x: Any, y: Any) -> ir.Value:
    (a, b), (c, d) = parts(op, x), parts(op, y)
    for number, (real, imaginary) in ((x, (c, d)), (y, (a, b))):
        if isinstance(number, ir.Value) and not is_complex(number):
            scale = op.cast(number, op.dtype)
            return joined(op, op("Mul", real, scale), op("Mul", imaginary, scale))
    return joined(op, op("Sub", op("Mul", a, c), op("Mul", b, d)), op("Add", op("Mul", a, d), op("Mul", b, c)))


@reads_complex("aten.add", "aten.sub")
def add(op: Op, x: Any, y: Any, *, alpha: Any = 1) -> ir.Value:
    sums = []
    for a, b in zip(parts(op, x), parts(op, y), strict=True):
        made = op(op.name.capitalize(), a, b if alpha == 1 else op("Mul", b, alpha))
        sums.append(made if is_complex(x) and is_complex(y) else op("Expand", made, op.sizes))
    return joined(op, *sums)


@reads_complex("aten.div")
def divide(op: Op, x: Any, y: Any) -> ir.Value:
    (a, b), (c, d) = parts(op, x), parts(op, y)
    if isinstance(y, (int, float)) or (isinstance(y, ir.Value) and not is_complex(y)):
        return joined(op, op("Div", a, c), op("Div", b, c))
    size = op("Add", op("Mul", c, c), op("Mul", d, d))
    real = op("Add", op("Mul", a, c), op("Mul", b, d))
    imaginary = op("Sub", op("Mul", b, c), op("Mul", a, d))
    return joined(op, op("Div", real, size), op("Div", imaginary, size))


@reads_complex("aten.exp")
def exponential(op: Op, x: ir.Value) -> ir.Value:
    real, imaginary = parts(op, x)
    return polar(op, op("Exp", real), imaginary)


@reads_complex(*(f"aten.{name}" for name in _MOVING))
def moved(op: Op, *args: Any, **options: Any) -> Any:
    """The rule of real tensors, for each part."""
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


# --- Fourier transforms (torch.fft; normalization 0: none, 1: by the root of the count, 2: by the count) -----------


#: Normalization of a forward transform; of an inverse one "forward" and "backward" change places.
_NORMS = {None: 0, "backward": 0, "ortho": 1, "forward": 2}
_FFT = re.compile(r"fft_(i?)(r?)fft([2n]?)")


@reads_complex(*(f"aten.fft_{i}{r}fft{n}" for i in ("", "i") for r in ("", "r") for n in ("", "2", "n")))
def named_fft(op: Op, x: ir.Value, s: Any = None, dim: Any = None, norm: str | None = None) -> ir.Value:
    """``torch.fft``: read whole, since what torch makes of them fixes sizes that are not known."""
    inverse, real, many = _FFT.fullmatch(op.name).groups()  # type: ignore[union-attr]
    dim = ({"": [-1], "2": [-2, -1], "n": list(range(rank(x)))}[many]) if dim is None else dim
    dim = dim if isinstance(dim, list) else [dim]
    normalization = _NORMS[norm] if not inverse else 2 - _NORMS[norm]
    given = s if isinstance(s, list) else [s]
    kept = given[:-1] if inverse and real else given
    if any(length not in (None, sizes(x)[d]) for length, d in zip(kept, dim, strict=False)):
        op.refuse(f"{op.name} of a part of its input")
    if real and not inverse:
        return real_fft(op, x, dim, normalization, onesided=True)
    if real:
        return inverse_real_fft(op, x, dim, normalization, op.sizes[dim[-1]])
    if not is_complex(x):
        x = with_sizes(joined(op, op.cast(x, op.dtype), op("Expand", op.number(0, op.dtype), sizes(x))), sizes(x))
    return fft(op, x, dim, normalization, forward=not inverse)


@reads_complex("aten._fft_c2c")
def fft(op: Op, x: ir.Value, dim: list[int], normalization: int, forward: bool) -> ir.Value:
    made = _transformed(op, x, dim, inverse=not forward)
    return _normalized(op, made, [sizes(x)[d] for d in dim], normalization, inverse=not forward)


@reads_complex("aten._fft_r2c")
def real_fft(op: Op, x: ir.Value, dim: list[int], normalization: int, onesided: bool) -> ir.Value:
    made = op("DFT", op("Unsqueeze", x, [-1]), None, _axis(op, x, dim[-1]), onesided=int(onesided))
    made = _transformed(op, with_sizes(made, op.sizes), dim[:-1], inverse=False)
    return _normalized(op, made, [sizes(x)[d] for d in dim], normalization, inverse=False)


@reads_complex("aten._fft_c2r")
def inverse_real_fft(op: Op, x: ir.Value, dim: list[int], normalization: int, last_dim_size: Any) -> ir.Value:
    if not isinstance(last_dim_size, int):
        op.refuse("irfft of a size that is not fixed")
    axis = dim[-1] % rank(x)
    made = with_sizes(_transformed(op, x, dim[:-1], inverse=True), sizes(x))
    made = op.slice(made, axis, 0, last_dim_size // 2 + 1)
    real = with_sizes(of_half(op, made, axis, last_dim_size), op.sizes)
    return _normalized(op, real, [op.sizes[d] for d in dim], normalization, inverse=True)


def of_half(op: Op, spectrum: ir.Value, axis: int, count: int) -> ir.Value:
    """``count`` real numbers of the first half of their spectrum; the other is its conjugate, backwards."""
    half = count // 2 + 1
    mirror = op("Slice", spectrum, [count - half], [0], [axis], [-1])
    signs = op.constant(np.array([1.0, -1.0]), op.dtype)
    whole = op("Concat", spectrum, op("Mul", mirror, signs), axis=axis) if count > half else spectrum
    made = op("DFT", whole, None, op.number(axis, ir.DataType.INT64), inverse=1)
    return op("Gather", made, op.number(0, ir.DataType.INT64), axis=-1)


def _axis(op: Op, x: ir.Value, dim: int) -> ir.Value:
    return op.number(dim % rank(x), ir.DataType.INT64)


def _transformed(op: Op, x: ir.Value, dim: list[int], *, inverse: bool) -> ir.Value:
    made = x
    for axis in dim:
        made = op("DFT", made, None, _axis(op, x, axis), inverse=int(inverse) or None)
    return made


def _normalized(op: Op, x: ir.Value, lengths: list[Any], normalization: int, *, inverse: bool) -> ir.Value:
    """The standard divides an inverse transform by the count, and a forward one by nothing."""
    count = numel(lengths)
    if normalization == (2 if inverse else 0):
        return x
    if not isinstance(count, int):
        op.refuse("a Fourier transform of this normalization along an axis whose size is not fixed")
    scale = (1.0, count**-0.5, 1 / count)[normalization] * (count if inverse else 1)
    return op("Mul", x, op.constant(scale, op.dtype))


reads("aten.real")(as_it_is)
