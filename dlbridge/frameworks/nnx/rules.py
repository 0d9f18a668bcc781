"""The registry of NNX's writing rules, and what the rules share."""

from __future__ import annotations

import functools
from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.nnx.helpers import SPELLING
from dlbridge.ops import traits
from dlbridge.ops.keys import layer_key
from dlbridge.source import arrays
from dlbridge.source.arrays import ArrayDialect
from dlbridge.source.arrays.dtypes import DTYPES, MORE_DTYPES
from dlbridge.source.names import quoted
from dlbridge.source.op import Emit, Layer, Op, Rules
from dlbridge.source.tree import expr
from dlbridge.source.tree.code import Code, Literal, Raw, call

#: Slots of layers that hold what no optimizer changes.
STATE = frozenset({"mean", "var"})


class _Rules(Rules):
    def emit(self, op: Op) -> Emit:
        made = super().emit(op)
        layer = made.layer
        if layer is not None and (_is_tied(op) or layer.trains_what_is_fixed(op.node.graph, STATE)):  # type: ignore[arg-type]
            op.free = True
            made = super().emit(op)
        if made.layer is None and made.module is None:
            made.module = _as_function(op, made)
        return made


def _is_tied(op: Op) -> bool:
    """Whether nodes of another kind read a weight, too. Flax' layers hold theirs in a form of their own, so both could
    not be one parameter: the code reads it without a layer then."""
    weights = [v for v in op.node.inputs[1:] if v is not None and v.is_initializer() and traits.kind(v) != "constant"]
    return any(layer_key(use.node) != op.key for value in weights for use in value.uses())


def _as_function(op: Op, made: Emit) -> Layer | None:
    """A function of one argument for where a sequence is printed: ``nnx.relu``, ``lambda x: x.T``."""
    x = op.value(0)
    values = set(made.code.values())
    if x is None or values != {x} or len(op.node.outputs) != 1 or x.is_initializer():
        return None
    only = made.code
    if isinstance(only, expr.Call) and len(only.arguments) == 1 and isinstance(only.arguments[0], expr.Val):
        return Layer(only.function)
    return Layer(expr.Lambda("x", only.substituted(lambda value: expr.Var("x"))))


#: ``@rules("Relu")`` over a function ``Op -> Code | Emit`` makes it the rule of an op.
rules = _Rules("nnx")

_DTYPES = DTYPES | MORE_DTYPES | {ir.DataType.INT2: "int2", ir.DataType.UINT2: "uint2", ir.DataType.INT4: "int4"}
_DTYPES |= {ir.DataType.UINT4: "uint4", ir.DataType.FLOAT4E2M1: "float4_e2m1fn"}


def dtype_name(dtype: ir.DataType) -> Raw:
    """A dtype in code. ``int`` is int64, or int32 where JAX runs without 64-bit types: its own type of indices."""
    if dtype == ir.DataType.INT64:
        return Raw("int")
    return Raw("bool") if dtype == ir.DataType.BOOL else Raw(f"jnp.{_DTYPES[dtype]}")


def nnx_dtype(op: Op, dtype: ir.DataType) -> Raw:
    """A dtype as JAX calls it; refused by name when JAX has none."""
    if dtype not in _DTYPES:
        op.refuse(f"JAX has no dtype {dtype.name}")
    return dtype_name(dtype)


def quoted_dtype(op: Op, dtype: ir.DataType) -> Raw:
    """A dtype as a string, for helpers that read it."""
    nnx_dtype(op, dtype)
    return Raw(quoted(_DTYPES[dtype]))


def ints(op: Op, index: int) -> Any:
    """The elements of an integer input: a list of numbers and Python expressions, or code that reads the array."""
    found = op.ints(index)
    return NNX.listed(op[index]) if found is None else found


#: The one element of an input: a number, a Python expression, or code that reads the array.
number = functools.partial(arrays.number, read="np.asarray({}).item()")


def cast(x: Any, dtype: Raw) -> Code:
    return call("jnp.astype", x, dtype)


def param_dtype(op: Op, index: int) -> Raw | None:
    """The dtype to give to a layer for its parameters; None for float32."""
    dtype = op.dtype(index)
    return None if dtype == ir.DataType.FLOAT else nnx_dtype(op, dtype)


RNGS = Raw("rngs")
NNX = ArrayDialect(
    spelling=SPELLING,
    dtype=nnx_dtype,
    cast=cast,
    ints=ints,
    number=number,
    widened=frozenset({"INT8", "INT16", "INT32", "UINT8", "UINT16", "UINT32", "BOOL"}),
    in_python="np.asarray({})",
    special={"Erfc": "jax.lax.erfc", "Erfinv": "jax.lax.erf_inv"},
    dropout=lambda ratio: call("nnx.Dropout", Literal(ratio, "rate"), rngs=RNGS),
)
