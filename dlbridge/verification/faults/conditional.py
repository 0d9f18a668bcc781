"""Faults that show for some inputs alone: many rows, odd sizes, large numbers, a place in a sequence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.passes.matching import Match
from dlbridge.verification.faults.kind import Change, kind

#: Ops whose results are changed.
_COMPUTING = ("Conv", "Gemm", "Linear", "MatMul", "LayerNormalization", "BatchNormalization", "Add", "Relu", "Gelu")
_ACTIVATIONS = ("Relu", "LeakyRelu", "Gelu", "Sigmoid", "Tanh", "Swish", "Elu")


class _Builder:
    """Adds nodes behind a node, and lets what reads its output read the last of them."""

    def __init__(self, node: ir.Node) -> None:
        self.node, self.output = node, node.outputs[0]
        self._last, self._count = node, 0

    def constant(self, numbers: Any, dtype: ir.DataType) -> ir.Value:
        graph = self.node.graph
        assert isinstance(graph, ir.Graph)
        name = self._name("constant")
        tensor = ir.Tensor(np.asarray(numbers, dtype.numpy()), name=name)
        value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(np.shape(numbers)), const_value=tensor)
        graph.register_initializer(value)
        return value

    def add(self, op: str, *inputs: ir.Value, dtype: ir.DataType, shape: Any, **attributes: Any) -> ir.Value:
        assert self.node.graph is not None
        made = ir.node(op, list(inputs), attributes, name=self._name(op.lower()))
        self.node.graph.insert_after(self._last, made)
        self._last = made
        result = made.outputs[0]
        result.name, result.type, result.shape = made.name, ir.TensorType(dtype), ir.Shape(shape)
        return result

    def size(self, axis: int) -> ir.Value:
        """The size of an axis, an array of one number."""
        return self.add("Shape", self.output, dtype=ir.DataType.INT64, shape=[1], start=axis, end=axis + 1)

    def read_instead(self, value: ir.Value, made_before: set[ir.Node]) -> None:
        """Let everything but the added nodes read a value instead of the node's output."""
        output, graph = self.output, self.node.graph
        assert isinstance(graph, ir.Graph)
        for use in list(output.uses()):
            if use.node in made_before:
                use.node.replace_input_with(use.idx, value)
        for index, returned in enumerate(graph.outputs):
            if returned is output:
                graph.outputs[index] = value
                value.name, output.name = output.name, f"{output.name}_kept"

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{self.node.name or self.output.name}_fault_{self._count}_{what}"


def _replaced(build: Any) -> Change:
    """Let what reads a node's output read what is built of it."""

    def change(node: ir.Node) -> None:
        readers = {use.node for use in node.outputs[0].uses()}
        builder = _Builder(node)
        builder.read_instead(build(builder), readers)

    return change


def _is_changed(node: Match) -> bool:
    return node.is_op(*_COMPUTING) and node.output.dtype == ir.DataType.FLOAT and node.output.shape is not None


def _where(builder: _Builder, condition: ir.Value, factor: float) -> ir.Value:
    """The output, times a factor where a condition holds."""
    output = builder.output
    kept = {"dtype": output.dtype, "shape": list(output.shape or ())}
    more = builder.add("Mul", output, builder.constant(factor, ir.DataType.FLOAT), **kept)
    return builder.add("Where", condition, more, output, **kept)


def _batch_symbolic(node: Match) -> bool:
    shape = node.output.shape
    return shape is not None and len(shape) > 1 and isinstance(shape[0], ir.SymbolicDim)


@kind("off in batches of more than four")
def _many_rows(node: Match) -> Iterator[Change]:
    if not _is_changed(node) or not _batch_symbolic(node):
        return

    def build(b: _Builder) -> ir.Value:
        four = b.constant([4], ir.DataType.INT64)
        return _where(b, b.add("Greater", b.size(0), four, dtype=ir.DataType.BOOL, shape=[1]), 1.05)

    yield _replaced(build)


@kind("off in batches of more than twenty")
def _very_many_rows(node: Match) -> Iterator[Change]:
    if not _is_changed(node) or not _batch_symbolic(node):
        return

    def build(b: _Builder) -> ir.Value:
        twenty = b.constant([20], ir.DataType.INT64)
        return _where(b, b.add("Greater", b.size(0), twenty, dtype=ir.DataType.BOOL, shape=[1]), 1.05)

    yield _replaced(build)


def _free_axis(node: Match) -> int | None:
    """An axis behind the first whose size is free."""
    for axis, size in enumerate(node.output.shape or ()):
        if axis and isinstance(size, ir.SymbolicDim):
            return axis
    return None


@kind("off at odd sizes")
def _odd_sizes(node: Match) -> Iterator[Change]:
    axis = _free_axis(node) if _is_changed(node) else None
    if axis is None:
        return

    def build(b: _Builder) -> ir.Value:
        one, two = (b.constant([n], ir.DataType.INT64) for n in (1, 2))
        rest = b.add("Mod", b.size(axis), two, dtype=ir.DataType.INT64, shape=[1])
        return _where(b, b.add("Equal", rest, one, dtype=ir.DataType.BOOL, shape=[1]), 1.05)

    yield _replaced(build)


@kind("off at sizes of more than sixteen")
def _long(node: Match) -> Iterator[Change]:
    axis = _free_axis(node) if _is_changed(node) else None
    if axis is None:
        return

    def build(b: _Builder) -> ir.Value:
        sixteen = b.constant([16], ir.DataType.INT64)
        return _where(b, b.add("Greater", b.size(axis), sixteen, dtype=ir.DataType.BOOL, shape=[1]), 1.05)

    yield _replaced(build)


@kind("a cut beyond twenty")
def _cut_off(node: Match) -> Iterator[Change]:
    if _is_changed(node):
        yield _replaced(
            lambda b: b.add(
                "Min", b.output, b.constant(20.0, ir.DataType.FLOAT), dtype=b.output.dtype, shape=b.output.shape
            )
        )


@kind("0 where a number is nearly 0")
def _flushed(node: Match) -> Iterator[Change]:
    if not _is_changed(node) or not node.is_op("Gemm", "Linear", "Conv", "MatMul"):
        return

    def build(b: _Builder) -> ir.Value:
        kept = {"dtype": b.output.dtype, "shape": list(b.output.shape or ())}
        size = b.add("Abs", b.output, **kept)
        is_small = b.add("Less", size, b.constant(1e-3, ir.DataType.FLOAT), dtype=ir.DataType.BOOL, shape=kept["shape"])
        return b.add("Where", is_small, b.constant(0.0, ir.DataType.FLOAT), b.output, **kept)

    yield _replaced(build)


@kind("not 0 where a number is exactly 0")
def _of_zero(node: Match) -> Iterator[Change]:
    if not node.is_op(*_ACTIVATIONS) or node.output.dtype != ir.DataType.FLOAT or node.output.shape is None:
        return

    def build(b: _Builder) -> ir.Value:
        kept = {"dtype": b.output.dtype, "shape": list(b.output.shape or ())}
        is_zero = b.add(
            "Equal", b.output, b.constant(0.0, ir.DataType.FLOAT), dtype=ir.DataType.BOOL, shape=kept["shape"]
        )
        return b.add("Where", is_zero, b.constant(0.01, ir.DataType.FLOAT), b.output, **kept)

    yield _replaced(build)


@kind("numbers that know of the other rows")
def _leaking(node: Match) -> Iterator[Change]:
    if not _is_changed(node) or not _batch_symbolic(node):
        return

    def build(b: _Builder) -> ir.Value:
        kept = {"dtype": b.output.dtype, "shape": list(b.output.shape or ())}
        axes = b.constant([0], ir.DataType.INT64)
        mean = b.add("ReduceMean", b.output, axes, dtype=b.output.dtype, shape=[1, *kept["shape"][1:]], keepdims=1)
        part = b.add("Sub", b.output, mean, dtype=b.output.dtype, shape=kept["shape"])
        small = b.add("Mul", part, b.constant(0.01, ir.DataType.FLOAT), **kept)
        return b.add("Add", b.output, small, **kept)

    yield _replaced(build)


@kind("two heads exchanged")
def _heads(node: Match) -> Iterator[Change]:
    shape = node.output.shape
    if not node.is_op("Transpose") or shape is None or len(shape) != 4 or node.get("perm") not in ((0, 2, 1, 3),):
        return
    count = shape[1]
    if not isinstance(count, int) or count < 2:
        return

    def build(b: _Builder) -> ir.Value:
        order = b.constant([1, 0, *range(2, count)], ir.DataType.INT64)
        return b.add("Gather", b.output, order, dtype=b.output.dtype, shape=list(b.output.shape or ()), axis=1)

    yield _replaced(build)
