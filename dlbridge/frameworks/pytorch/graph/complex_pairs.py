"""Complex tensors, which ONNX' ops do not support: a pair of real ones, along a further last axis."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import sizes, with_sizes
from dlbridge.frameworks.pytorch.graph.reading import Op

#: The real and the imaginary part.
Pair = tuple[ir.Value, ir.Value]


def is_complex(x: Any) -> bool:
    return isinstance(x, ir.Value) and bool(x.meta.get("complex"))


def parts(op: Op, x: Any) -> Pair:
    """(real, imaginary) of a tensor or a number; the imaginary part of what is real is 0."""
    if not isinstance(x, ir.Value):
        x = complex(x)
        return op.constant(x.real, op.dtype), op.constant(x.imag, op.dtype)
    if not is_complex(x):
        return op.cast(x), op.number(0, op.dtype)
    if "parts" not in x.meta:
        x.meta["parts"] = [op("Gather", x, i, axis=-1) for i in (0, 1)]
    real, imaginary = (with_sizes(p, sizes(x)) for p in x.meta["parts"])
    return real, imaginary


def joined(op: Op, real: ir.Value, imaginary: ir.Value) -> ir.Value:
    """Stack the real and imaginary parts to a complex tensor, and keep them for later use."""
    made = op("Concat", *(op("Unsqueeze", p, [-1]) for p in (real, imaginary)), axis=-1)
    made.meta["parts"] = (real, imaginary)
    return made
