"""Python's operators as the tensors of Keras' backend have them, on tensors without numbers.

In the code of a layer, ``ids == 0`` and ``a & b`` are the operators of a tensor of TensorFlow, JAX or PyTorch. Those of
Keras' own symbolic tensors, by which a functional model is written, are others: ``==`` asks for the same object there,
and ``&`` of integers is of their truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from dlbridge.frameworks.keras import compat

Operator = Callable[[Any, Any], Any]


def _both_ways(operator: Operator) -> tuple[Operator, Operator]:
    """The methods of a Python operator: with the tensor on its left, and on its right."""
    return operator, lambda tensor, other: operator(other, tensor)


def _of_bits(logical: Operator, bitwise: Operator) -> tuple[Operator, Operator]:
    """The methods of an operator of bits, which is the logical operation of truth values."""
    return _both_ways(lambda x, y: logical(x, y) if "bool" in (_dtype(x), _dtype(y)) else bitwise(x, y))


def _sum(x: Any, y: Any) -> Any:
    """Unlike ``keras.ops.add`` on TensorFlow, an operator takes no operand for a bias (``reads/biases.py``)."""
    operation = compat.Add()
    operation.is_operator = True
    return operation.symbolic_call(x, y)


def _product(x: Any, y: Any) -> Any:
    """TensorFlow multiplies with truth values in int32, and makes a truth value of it."""
    if _on_tensorflow() and "bool" in (_dtype(x), _dtype(y)):
        return ops.cast(ops.multiply(ops.cast(x, "int32"), ops.cast(y, "int32")), "bool")
    return ops.multiply(x, y)


def _quotient(x: Any, y: Any) -> Any:
    return ops.true_divide(_dividend(x), _dividend(y))


def _dividend(operand: Any) -> Any:
    """TensorFlow divides integers of 32 bits and more in float64."""
    wide = _on_tensorflow() and _dtype(operand) in ("int32", "int64", "uint32", "uint64")
    return ops.cast(operand, "float64") if wide else operand


def _on_tensorflow() -> bool:
    return keras.backend.backend() == "tensorflow"


def _dtype(operand: Any) -> str | None:
    """The dtype of a tensor or array; None for a number of Python."""
    dtype = getattr(operand, "dtype", None)
    return None if dtype is None or isinstance(dtype, type) else keras.backend.standardize_dtype(dtype)


def _is_operand(other: object) -> bool:
    """Whether a tensor is compared with it element by element; with None, say, it is not."""
    return other is not None and not isinstance(other, (str, bytes, dict, type))


class BackendOperators(keras.KerasTensor):
    """A symbolic tensor whose operators record what those of the backend's tensors compute."""

    __hash__ = keras.KerasTensor.__hash__
    #: numpy leaves an operator to a tensor on its right, as it does for the backend's own.
    __array_ufunc__ = None

    def __eq__(self, other: object) -> Any:
        return ops.equal(self, other) if _is_operand(other) else NotImplemented

    def __ne__(self, other: object) -> Any:
        return ops.not_equal(self, other) if _is_operand(other) else NotImplemented

    def __invert__(self) -> Any:
        return ops.logical_not(self) if self.dtype == "bool" else ops.bitwise_not(self)

    __and__, __rand__ = _of_bits(ops.logical_and, ops.bitwise_and)
    __or__, __ror__ = _of_bits(ops.logical_or, ops.bitwise_or)
    __xor__, __rxor__ = _of_bits(ops.logical_xor, ops.bitwise_xor)
    __add__, __radd__ = _both_ways(_sum)
    __mul__, __rmul__ = _both_ways(_product)
    __truediv__, __rtruediv__ = _both_ways(_quotient)
