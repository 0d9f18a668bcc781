"""New tensors, copies, and changes of dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import sympy

from dlbridge.frameworks.pytorch.graph.reading import Op, reads


def filled(op: Op, value: Any) -> ir.Value:
    """A tensor of the result's sizes, filled with one number."""
    if isinstance(value, ir.Value) or getattr(value, "free_symbols", None):
        return op("Expand", op.cast(value), op.sizes)
    array = np.full(1, value).astype(op.dtype.numpy())
    return op("ConstantOfShape", op.sizes, value=ir.tensor(array)) if op.sizes else op.constant(array.reshape(()))


@reads("aten.zeros", "aten.zeros_like", "aten.new_zeros", "aten.ones", "aten.ones_like", "aten.new_ones")
@reads("aten.empty", "aten.empty_like", "aten.new_empty")
@reads("aten.empty_strided", "aten.new_empty_strided", "aten.empty_permuted")
def of_one_number(op: Op, *args: Any, **options: Any) -> ir.Value:
    """An uninitialised tensor may have any contents; here they are zeros."""
    return filled(op, int("ones" in op.name))


@reads("aten.full", "aten.full_like", "aten.new_full")
def full(op: Op, sizes: Any, fill_value: Any, *args: Any, **options: Any) -> ir.Value:
    return filled(op, args[0] if op.name == "new_full" and args else fill_value)


@reads("aten.scalar_tensor", "aten.tensor")
def scalar(op: Op, value: Any, **options: Any) -> ir.Value:
    return op.cast(value)


@reads("aten.arange", "aten.arange.start", "aten.arange.start_step")
def arange(op: Op, *args: Any, **options: Any) -> ir.Value:
    """``(end)``, ``(start, end)`` or ``(start, end, step)``, in the result's dtype."""
    start, end, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
    step = options.get("step", step)
    if all(isinstance(v, (int, float)) for v in (start, end, step)):
        return op.constant(np.arange(start, end, step), op.dtype)
    kind = op.dtype
    if not kind.is_floating_point() or all(_is_whole(v) for v in (start, end, step)):
        kind = ir.DataType.INT64  # a size stays one: as a float, only a run would tell how many there are
    made = op.cast(op("Range", *(op.number(v, kind) for v in (start, end, step))))
    made.meta["range"] = (start, end, step)
    return made


def _is_whole(number: Any) -> bool:
    """Whether it is an integer: a number, arithmetic on sizes, or a tensor."""
    if isinstance(number, ir.Value):
        return number.dtype is not None and number.dtype.is_integer()
    if isinstance(number, sympy.Expr):
        return bool(number.is_integer)
    return isinstance(number, int)


@reads("aten.eye")
def eye(op: Op, *args: Any, **options: Any) -> ir.Value:
    shape = op.sizes
    if all(isinstance(s, int) for s in shape):
        return op.constant(np.eye(*shape), op.dtype)
    zero = op("ConstantOfShape", shape, value=ir.tensor(np.zeros(1, op.dtype.numpy())))
    return op("EyeLike", zero, dtype=int(op.dtype))


@reads("aten.tril_indices", "aten.triu_indices")
def triangle_indices(op: Op, row: Any, col: Any, offset: int = 0, **options: Any) -> ir.Value:
    if not (isinstance(row, int) and isinstance(col, int)):
        op.refuse(f"{op.name} of sizes that are not fixed")
    find = np.tril_indices if op.name == "tril_indices" else np.triu_indices
    return op.constant(np.stack(find(row, offset, col)), op.dtype)


@reads("aten.rand", "aten.randn", "aten.rand_like", "aten.randn_like", "aten.bernoulli", "aten.randint")
def random(op: Op, *args: Any, **options: Any) -> ir.Value:
    return op.refuse(f"{op.name}: random numbers at inference (forward can take them as an input)")


# --- copies ---------------------------------------------------------------------------------------------------------


@reads(
    "aten.to", "aten.to.other", "aten.to.dtype_layout", "aten._to_copy", "aten.type_as", "prims.convert_element_type"
)
@reads("aten.contiguous", "aten.clone", "aten.alias", "aten.lift_fresh", "aten.lift_fresh_copy")
@reads("aten.positive", "aten.resolve_conj", "aten.resolve_neg", "aten.requires_grad")
def same(op: Op, x: ir.Value, *rest: Any, **options: Any) -> ir.Value:
    """Cast to the dtype of the result."""
    return op.cast(x)


@reads("aten.detach")
def detach(op: Op, x: ir.Value) -> ir.Value:
    """A node where it keeps gradients from weights, which is all that it does."""
    return op.extension("StopGradient", x) if op.stops else x


@reads("aten.copy")
def copy(op: Op, x: ir.Value, source: Any) -> ir.Value:
    return op.expand(op.cast(source), op.sizes)


@reads("aten.item", "aten._local_scalar_dense")
def item(op: Op, x: ir.Value) -> ir.Value:
    return x
