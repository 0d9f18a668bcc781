"""Layers that join several tensors."""

from __future__ import annotations

import functools
from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.call_site import CallSite, layer
from dlbridge.frameworks.keras.masks import mask_of

_CHAINED = {"Add": "Add", "Multiply": "Mul", "Subtract": "Sub", "Maximum": "Max", "Minimum": "Min"}


def _aligned(site: CallSite) -> list[ir.Value]:
    """Give the inputs one dtype and equal ranks: as in Keras, axes of size 1 are inserted after the batch."""
    values = site.common(*site.args[0])
    rank = max(site.rank(v) for v in values)
    return [v if site.rank(v) == rank else site.unsqueeze(v, *range(1, 1 + rank - site.rank(v))) for v in values]


@layer("Add", "Multiply", "Subtract", "Maximum", "Minimum")
def chained(site: CallSite) -> Any:
    op_type = _CHAINED[site.kind]
    values = _aligned(site)
    masks = _masks(site, values)
    if op_type == "Mul" and any(m is not None for m in masks):
        return _masked_product(site, values, masks)
    if op_type in ("Max", "Min") and any(m is not None for m in masks):
        return _masked_extreme(site, op_type, values, masks)
    if len(values) > 1:
        return functools.reduce(lambda a, b: site.op(op_type, a, b), values)
    return site.op("Identity", *values)


def _masks(site: CallSite, values: list[ir.Value]) -> list[ir.Value | None]:
    """The masks of the inputs, with an axis behind for what is masked; an input that got further axes has none."""
    found: list[ir.Value | None] = []
    for value, given in zip(values, site.args[0], strict=True):
        is_as_given = isinstance(given, ir.Value) and site.rank(given) == site.rank(value)
        found.append(mask_of(given) if is_as_given else None)
    return [None if m is None else site.unsqueeze(site.cast(m, ir.DataType.BOOL), -1) for m in found]


def _masked_product(site: CallSite, values: list[ir.Value], masks: list[ir.Value | None]) -> ir.Value:
    """As in Keras, masked elements count as 1; if all inputs have masks and all of these mask, the product is 0."""
    one = site.build.value(1.0, values[0].dtype)
    factors = [v if m is None else site.op("Where", m, v, one) for v, m in zip(values, masks, strict=True)]
    product = functools.reduce(lambda a, b: site.op("Mul", a, b), factors)
    if any(m is None for m in masks):
        return product
    counted = functools.reduce(lambda a, b: site.op("Or", a, b), masks)
    return site.op("Where", counted, product, site.build.value(0.0, product.dtype))


def _masked_extreme(site: CallSite, op_type: str, values: list[ir.Value], masks: list[ir.Value | None]) -> ir.Value:
    """As in Keras, an element that is masked in one of two inputs is taken from the other."""
    result, counted = values[0], masks[0]
    for value, mask in zip(values[1:], masks[1:], strict=True):
        other = value if mask is None else site.op("Where", mask, value, result)
        if counted is not None:
            result = site.op("Where", counted, result, other)
        counted = None if mask is None or counted is None else site.op("Or", counted, mask)
        result = site.op(op_type, result, other)
    return result


@layer("Average")
def average(site: CallSite) -> Any:
    values = _aligned(site)
    total = functools.reduce(lambda a, b: site.op("Add", a, b), values)
    return site.layer_op("Div", total, float(len(values)))


@layer("Concatenate")
def concatenate(site: CallSite) -> Any:
    return site.layer_op("Concat", *site.common(*site.args[0]), axis=site.layer.axis)


@layer("Dot")
def dot(site: CallSite) -> Any:
    kind = site.layer
    x, y = site.common(*site.args[0])
    axes = [kind.axes, kind.axes] if isinstance(kind.axes, int) else list(kind.axes)
    axes = [site.axis(a, site.rank(v)) for a, v in zip(axes, (x, y), strict=True)]
    if kind.normalize:
        x, y = (site.op("Div", v, _length(site, v, a)) for v, a in zip((x, y), axes, strict=True))
    letters = iter("abcdefghijklmnopqrstuvw")
    left = ["z", *(next(letters) for _ in range(site.rank(x) - 1))]
    right = ["z", *(next(letters) for _ in range(site.rank(y) - 1))]
    left[axes[0]] = right[axes[1]] = "y"
    kept = ["z", *(c for c in left[1:] if c != "y"), *(c for c in right[1:] if c != "y")]
    product = site.layer_op("Einsum", x, y, equation=f"{''.join(left)},{''.join(right)}->{''.join(kept)}")
    return site.unsqueeze(product, 1) if len(kept) == 1 else product


def _length(site: CallSite, x: ir.Value, axis: int) -> ir.Value:
    """sqrt(max(sum(x^2), 1e-12)), as in keras.utils.normalize."""
    squares = site.op("ReduceSum", site.op("Mul", x, x), [axis])
    return site.op("Sqrt", site.op("Max", squares, site.build.value(1e-12, x.dtype)))
