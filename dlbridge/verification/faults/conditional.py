"""Faults that show for some inputs alone: many rows, odd sizes, large numbers, exact zeros."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.passes.matching import Match
from dlbridge.verification.faults.kind import Change, kind

#: Ops whose results are changed.
_COMPUTING = ("Conv", "Gemm", "Linear", "MatMul", "LayerNormalization", "BatchNormalization", "Add", "Relu", "Gelu")
_PRODUCTS = ("Conv", "Gemm", "Linear", "MatMul")
_ACTIVATIONS = ("Relu", "LeakyRelu", "Gelu", "Sigmoid", "Tanh", "Swish", "Elu")
#: What a result is multiplied by where it is off.
_OFF = 1.05


class _Behind:
    """Adds nodes behind a node.

    Attributes:
        output: The node's output.
    """

    def __init__(self, node: ir.Node) -> None:
        self.output = node.outputs[0]
        self._last, self._graph, self._count = node, node.graph, 0
        self._name = node.name or self.output.name or ""

    def constant(self, numbers: Any, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        assert isinstance(self._graph, ir.Graph)
        array, name = np.asarray(numbers, dtype.numpy()), self._fresh("constant")
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(array.shape), const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def alike(self, op: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """A result of the output's type and shape."""
        return self._add(op, inputs, self.output.dtype or ir.DataType.FLOAT, list(self.output.shape or ()), attributes)

    def compared(self, op: str, value: ir.Value, number: float) -> ir.Value:
        """Whether numbers are less than, equal to or greater than one."""
        limit = self.constant(number, value.dtype or ir.DataType.FLOAT)
        return self._add(op, (value, limit), ir.DataType.BOOL, list(value.shape or ()), {})

    def size(self, axis: int, modulo: int | None = None) -> ir.Value:
        """The size of an axis, or what is left of it: an array of one number."""
        found = self._add("Shape", (self.output,), ir.DataType.INT64, [1], {"start": axis, "end": axis + 1})
        if modulo is None:
            return found
        return self._add("Mod", (found, self.constant([modulo], ir.DataType.INT64)), ir.DataType.INT64, [1], {})

    def mean_of_rows(self) -> ir.Value:
        shape = [1, *list(self.output.shape or ())[1:]]
        given = (self.output, self.constant([0], ir.DataType.INT64))
        return self._add("ReduceMean", given, self.output.dtype or ir.DataType.FLOAT, shape, {"keepdims": 1})

    def off_where(self, condition: ir.Value) -> ir.Value:
        return self.alike("Where", condition, self.alike("Mul", self.output, self.constant(_OFF)), self.output)

    def read_instead(self, value: ir.Value, readers: Collection[ir.Node]) -> None:
        """Let readers of the output, and the graph where it returns it, read a value instead."""
        assert isinstance(self._graph, ir.Graph)
        for use in list(self.output.uses()):
            if use.node in readers:
                use.node.replace_input_with(use.idx, value)
        for index, returned in enumerate(self._graph.outputs):
            if returned is self.output:
                self._graph.outputs[index] = value
                value.name, self.output.name = self.output.name, f"{self.output.name}_kept"

    def _add(
        self, op: str, inputs: Sequence[ir.Value], dtype: ir.DataType, shape: Sequence[Any], attributes: dict[str, Any]
    ) -> ir.Value:
        assert self._graph is not None
        made = ir.node(op, list(inputs), attributes, name=self._fresh(op.lower()))
        self._graph.insert_after(self._last, made)
        self._last = made
        result = made.outputs[0]
        result.name, result.type, result.shape = made.name, ir.TensorType(dtype), ir.Shape(shape)
        return result

    def _fresh(self, what: str) -> str:
        self._count += 1
        return f"{self._name}_fault_{self._count}_{what}"


def _made_of(build: Callable[[_Behind], ir.Value]) -> Change:
    """Compute something from a node's output, and let everything that read the output read that instead."""

    def change(node: ir.Node) -> None:
        readers = {use.node for use in node.outputs[0].uses()}
        behind = _Behind(node)
        behind.read_instead(build(behind), readers)

    return change


def _is_float(node: Match, ops: Sequence[str] = _COMPUTING) -> bool:
    return node.is_op(*ops) and node.output.dtype == ir.DataType.FLOAT and node.output.shape is not None


def _has_rows(node: Match) -> bool:
    """Whether a float result has a free number of rows."""
    shape = node.output.shape
    return _is_float(node) and shape is not None and len(shape) > 1 and isinstance(shape[0], ir.SymbolicDim)


def _free_axis(node: Match) -> int | None:
    """An axis of a float result behind the first whose size is free."""
    if not _is_float(node):
        return None
    free = [axis for axis, size in enumerate(node.output.shape or ()) if axis and isinstance(size, ir.SymbolicDim)]
    return free[0] if free else None


def _beyond(rows: int) -> Callable[[Match], Iterator[Change]]:
    def finds(node: Match) -> Iterator[Change]:
        if _has_rows(node):
            yield _made_of(lambda b: b.off_where(b.compared("Greater", b.size(0), rows)))

    return finds


kind("off in batches of more than four")(_beyond(4))
kind("off in batches of more than twenty")(_beyond(20))


@kind("off at odd sizes")
def _odd_sizes(node: Match) -> Iterator[Change]:
    axis = _free_axis(node)
    if axis is not None:
        yield _made_of(lambda b: b.off_where(b.compared("Equal", b.size(axis, modulo=2), 1)))


@kind("off at sizes of more than sixteen")
def _long(node: Match) -> Iterator[Change]:
    axis = _free_axis(node)
    if axis is not None:
        yield _made_of(lambda b: b.off_where(b.compared("Greater", b.size(axis), 16)))


@kind("a cut beyond twenty")
def _cut_off(node: Match) -> Iterator[Change]:
    if _is_float(node):
        yield _made_of(lambda b: b.alike("Min", b.output, b.constant(20.0)))


@kind("0 where a number is nearly 0")
def _flushed(node: Match) -> Iterator[Change]:
    if _is_float(node, _PRODUCTS):
        yield _made_of(
            lambda b: b.alike("Where", b.compared("Less", b.alike("Abs", b.output), 1e-3), b.constant(0.0), b.output)
        )


@kind("not 0 where a number is exactly 0")
def _of_zero(node: Match) -> Iterator[Change]:
    if _is_float(node, _ACTIVATIONS):
        yield _made_of(lambda b: b.alike("Where", b.compared("Equal", b.output, 0.0), b.constant(0.01), b.output))


@kind("numbers that know of the other rows")
def _leaking(node: Match) -> Iterator[Change]:
    if _has_rows(node):
        yield _made_of(
            lambda b: b.alike(
                "Add", b.output, b.alike("Mul", b.alike("Sub", b.output, b.mean_of_rows()), b.constant(0.01))
            )
        )


@kind("two heads exchanged")
def _heads(node: Match) -> Iterator[Change]:
    shape = node.output.shape
    if not node.is_op("Transpose") or shape is None or len(shape) != 4 or list(node.get("perm", ())) != [0, 2, 1, 3]:
        return
    count = shape[1]
    if isinstance(count, int) and count > 1:
        order = [1, 0, *range(2, count)]
        yield _made_of(lambda b: b.alike("Gather", b.output, b.constant(order, ir.DataType.INT64), axis=1))
