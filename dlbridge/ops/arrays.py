"""Functions of arrays that make the nodes of an ONNX function: a formula that is written once runs on real arrays too.

They have the names and arguments of ``keras.ops``. ``body`` calls a formula with ``Array``s for its inputs, and what it
does to them becomes the body of the function.
"""

from __future__ import annotations

import contextvars
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

_DTYPES = {"float64": onnx.TensorProto.DOUBLE, "bool": onnx.TensorProto.BOOL}


class _Body:
    """The nodes of the function that is being made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.names = itertools.count()
        self.constants: dict[tuple[Any, ...], Array] = {}

    def add(self, op_type: str, *inputs: Array, **attributes: Any) -> Array:
        result = Array(self, f"v{next(self.names)}")
        self.nodes.append(helper.make_node(op_type, [i.name for i in inputs], [result.name], **attributes))
        return result

    def constant(self, values: Any, dtype: Any) -> Array:
        """A constant; equal ones are made once."""
        array = np.asarray(values, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = self.add("Constant", value=numpy_helper.from_array(array))
        return self.constants[key]


#: Whose nodes are being made.
_CURRENT: contextvars.ContextVar[_Body] = contextvars.ContextVar("body")


def _operator(op_type: str) -> tuple[Callable[[Array, Any], Array], Callable[[Array, Any], Array]]:
    """The methods of a Python operator that is an op: with the array on its left, and on its right."""

    def before(self: Array, other: Any) -> Array:
        return self.make(op_type, other)

    def after(self: Array, other: Any) -> Array:
        return self._body.constant(other, np.float64).make(op_type, self)

    return before, after


class Array:
    """A value inside the function: a tensor of float64, unless it is an input or a truth value."""

    def __init__(self, body: _Body, name: str) -> None:
        self._body, self.name = body, name

    @property
    def dtype(self) -> Array:
        """What ``cast`` gives an array this one's dtype by."""
        return self

    def make(self, op_type: str, *others: Any, **attributes: Any) -> Array:
        """A node with this array as its first input; numbers become constants."""
        given = [o if isinstance(o, Array) else self._body.constant(o, np.float64) for o in others]
        return self._body.add(op_type, self, *given, **attributes)

    __add__, __radd__ = _operator("Add")
    __sub__, __rsub__ = _operator("Sub")
    __mul__, __rmul__ = _operator("Mul")
    __truediv__, __rtruediv__ = _operator("Div")
    __lt__, __gt__ = (_operator(op)[0] for op in ("Less", "Greater"))

    def __neg__(self) -> Array:
        return self.make("Neg")

    def __getitem__(self, item: Any) -> Array:
        """``x[..., None]``, which is all that the formulas need."""
        assert item == (Ellipsis, None)
        return self._body.add("Unsqueeze", self, self._body.constant([-1], np.int64))


def _unary(op_type: str) -> Callable[[Array], Array]:
    return lambda x: x.make(op_type)


abs, exp, log, sqrt, sin, cos = (_unary(op) for op in ("Abs", "Exp", "Log", "Sqrt", "Sin", "Cos"))
floor, round, sign, isinf, logical_not = (_unary(op) for op in ("Floor", "Round", "Sign", "IsInf", "Not"))


def array(values: Sequence[float], dtype: str) -> Array:
    return _CURRENT.get().constant(list(values), dtype)


def cast(x: Array, dtype: Any) -> Array:
    if isinstance(dtype, Array):
        return x.make("CastLike", dtype)
    return x.make("Cast", to=_DTYPES[dtype])


def _binary(op_type: str) -> Callable[[Array, Any], Array]:
    return lambda x, y: x.make(op_type, y)


equal, logical_and, logical_or = (_binary(op) for op in ("Equal", "And", "Or"))
maximum, minimum, power = (_binary(op) for op in ("Max", "Min", "Pow"))


def where(condition: Array, x: Any, y: Any) -> Array:
    return condition.make("Where", x, y)


def sum(x: Array, axis: int) -> Array:
    return x._body.add("ReduceSum", x, x._body.constant([axis], np.int64), keepdims=0)


def body(formula: Callable[..., Array], name: str, domain: str, opset: int) -> onnx.FunctionProto:
    """The ONNX function that computes a formula."""
    inputs = list(inspect.signature(formula).parameters)
    made = _Body()
    token = _CURRENT.set(made)
    try:
        result = formula(*(Array(made, i) for i in inputs))
    finally:
        _CURRENT.reset(token)
    made.nodes.append(helper.make_node("Identity", [result.name], ["result"]))
    return helper.make_function(domain, name, inputs, ["result"], made.nodes, _opsets(opset))


def _opsets(opset: int) -> Sequence[onnx.OperatorSetIdProto]:
    return [helper.make_opsetid("", opset)]
