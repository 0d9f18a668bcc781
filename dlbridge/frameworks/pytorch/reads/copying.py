"""Copies and changes of dtype."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.pytorch.reading import Op, reads
from dlbridge.frameworks.pytorch.tensors import sized_like


@reads(
    "aten.to",
    "aten._to_copy",
    "aten.type_as",
    "aten.to.other",
    "aten.contiguous",
    "aten.clone",
    "aten.detach",
    "aten.alias",
    "aten.lift_fresh",
    "aten.lift_fresh_copy",
    "aten.positive",
    "aten.resolve_conj",
    "aten.resolve_neg",
    "aten.requires_grad",
    "aten.to.dtype_layout",
    "prims.convert_element_type",
)
def same(op: Op, x: ir.Value, *rest: Any, **options: Any) -> ir.Value:
    """Cast to the dtype of the result."""
    return op.cast(x, op.dtype)


@reads("aten.copy")
def copy(op: Op, x: ir.Value, source: Any) -> ir.Value:
    made = op.cast(source, op.dtype)
    if made.meta.get("sizes") == op.sizes:
        return made
    return sized_like(op("Expand", made, op.sizes), x)


@reads("aten.item", "aten._local_scalar_dense")
def item(op: Op, x: ir.Value) -> ir.Value:
    return x
