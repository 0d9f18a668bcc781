"""Elementwise helpers."""

import torch


def flip_top_bit(x):
    """Maps the bits of unsigned 64-bit numbers to int64 numbers of the same order, and back."""
    return x ^ torch.iinfo(torch.int64).min


def as_unsigned(outputs, dtypes, flip=False):
    """The outputs in the unsigned types that are named."""
    return tuple(
        x if dtype is None else (flip_top_bit(x) if flip else x).to(dtype)
        for x, dtype in zip(outputs, dtypes, strict=True)
    )


def divide_uint64(a, b):
    """Quotient and remainder of the bits of unsigned 64-bit numbers that int64 tensors hold."""
    half = torch.div((a >> 1) & torch.iinfo(torch.int64).max, b, rounding_mode="trunc") << 1
    rest = a - half * b
    more = flip_top_bit(rest) >= flip_top_bit(b)
    quotient = torch.where(b < 0, flip_top_bit(a) >= flip_top_bit(b), half + more)
    return quotient, a - quotient * b


def shift_right_uint64(x, count):
    """Bits of unsigned 64-bit numbers, held by int64, shifted to the right."""
    return torch.where(count == 0, x, ((x >> 1) & torch.iinfo(torch.int64).max) >> (count - 1))


def float8_cast(x, dtype, saturate=True):
    """x in a float type of 8 bits; beyond its range the largest numbers or, of float8_e4m3fn above 464, NaN."""
    x = x.to(torch.float32)
    if saturate:
        x = x.clamp(torch.finfo(dtype).min, torch.finfo(dtype).max)
    elif dtype == torch.float8_e4m3fn:
        x = torch.where(x.abs() > 464, float("nan"), x)
    return x.to(dtype)


def cast_to_power_of_two(x, up):
    """x as float8_e8m0fnu, which holds powers of two alone, rounded up or down."""
    x = x.to(torch.float32).clamp(2.0**-127, 2.0**127)
    mantissa, exponent = torch.frexp(x)
    exponent = torch.where((mantissa > 0.5) & up, exponent, exponent - 1).clamp(-127, 127)
    power = torch.pow(2.0, exponent.to(torch.float64)).to(torch.float32)
    return torch.where(x.isnan(), x, power).to(torch.float8_e8m0fnu)


def shrink(x, bias, limit):
    """x moved by bias towards zero where it is outside [-limit, limit], else 0."""
    moved = torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, 0))
    return moved.to(x.dtype)


def hardmax(x, dim):
    """1 where the first maximum along dim is, else 0."""
    if x.numel() == 0:
        return x
    return torch.zeros_like(x).scatter_(dim, x.argmax(dim, keepdim=True), 1)
