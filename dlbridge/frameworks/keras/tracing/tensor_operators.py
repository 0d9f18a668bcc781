"""Python's operators as the tensors of Keras' backend have them, on tensors without numbers.

In the code of a layer, ``ids == 0`` and ``a & b`` are the operators of a tensor of TensorFlow, JAX or PyTorch. Those of
Keras' own symbolic tensors, by which a functional model is written, are others: ``==`` asks for the same object there,
and ``&`` of integers is of their truth.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from dlbridge.frameworks.keras import compat


class BackendOperators(keras.KerasTensor):
    """A symbolic tensor whose operators record what those of the backend's tensors compute."""

    __hash__ = keras.KerasTensor.__hash__
    #: numpy leaves an operator to a tensor on its right, as it does for the backend's own.
    __array_ufunc__ = None

    def __eq__(self, other: object) -> Any:
        return compat.Equal().symbolic_call(self, other) if _is_operand(other) else NotImplemented

    def __ne__(self, other: object) -> Any:
        return compat.NotEqual().symbolic_call(self, other) if _is_operand(other) else NotImplemented

    def __and__(self, other: Any) -> Any:
        return _of_bits("And", self, other)

    def __rand__(self, other: Any) -> Any:
        return _of_bits("And", other, self)

    def __or__(self, other: Any) -> Any:
        return _of_bits("Or", self, other)

    def __ror__(self, other: Any) -> Any:
        return _of_bits("Or", other, self)

    def __xor__(self, other: Any) -> Any:
        return _of_bits("Xor", self, other)

    def __rxor__(self, other: Any) -> Any:
        return _of_bits("Xor", other, self)

    def __invert__(self) -> Any:
        return (compat.LogicalNot() if self.dtype == "bool" else compat.BitwiseNot()).symbolic_call(self)

    def __add__(self, other: Any) -> Any:
        return _sum(self, other)

    def __radd__(self, other: Any) -> Any:
        return _sum(other, self)

    def __mul__(self, other: Any) -> Any:
        return _product(self, other)

    def __rmul__(self, other: Any) -> Any:
        return _product(other, self)

    def __truediv__(self, other: Any) -> Any:
        return compat.TrueDivide().symbolic_call(_dividend(self), _dividend(other))

    def __rtruediv__(self, other: Any) -> Any:
        return compat.TrueDivide().symbolic_call(_dividend(other), _dividend(self))


def _is_operand(other: object) -> bool:
    """Whether a tensor is compared with it element by element; with None, say, it is not."""
    return other is not None and not isinstance(other, (str, bytes, dict, type))


def _on_tensorflow() -> bool:
    return keras.backend.backend() == "tensorflow"


def _dtype(operand: Any) -> str | None:
    """The dtype of a tensor or array; None for a number of Python."""
    dtype = getattr(operand, "dtype", None)
    return None if dtype is None or isinstance(dtype, type) else keras.backend.standardize_dtype(dtype)


def _of_bits(name: str, x: Any, y: Any) -> Any:
    """Of truth values it is the logical operation."""
    is_logical = "bool" in (_dtype(x), _dtype(y))
    return getattr(compat, f"Logical{name}" if is_logical else f"Bitwise{name}")().symbolic_call(x, y)


def _sum(x: Any, y: Any) -> Any:
    """Unlike ``keras.ops.add`` on TensorFlow, an operator takes no operand for a bias (``reads/biases.py``)."""
    operation = compat.Add()
    operation.is_operator = True
    return operation.symbolic_call(x, y)


def _product(x: Any, y: Any) -> Any:
    """TensorFlow multiplies with truth values in int32, and makes a truth value of it."""
    if _on_tensorflow() and "bool" in (_dtype(x), _dtype(y)):
        return ops.cast(compat.Multiply().symbolic_call(ops.cast(x, "int32"), ops.cast(y, "int32")), "bool")
    return compat.Multiply().symbolic_call(x, y)


def _dividend(operand: Any) -> Any:
    """TensorFlow divides integers of 32 bits and more in float64."""
    wide = _on_tensorflow() and _dtype(operand) in ("int32", "int64", "uint32", "uint64")
    return ops.cast(operand, "float64") if wide else operand
