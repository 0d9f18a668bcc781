"""Faults of operations: another one in its place, one too many or too few, operands the wrong way round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx_ir as ir

from dlbridge.passes.matching import Match
from dlbridge.verification.faults.kind import (
    Change,
    before,
    bypass,
    drop_input,
    is_float,
    kind,
    replace_op,
    swap_inputs,
    through,
)

_ACTIVATIONS = (
    *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "Tanh", "HardSwish"),
    *("Swish", "Mish", "Softplus", "Softsign", "Softmax", "LogSoftmax", "Clip", "Erf", "Abs", "Sqrt"),
)


def _instead(*ops: str, of: str, attributes: dict[str, Any] | None = None) -> Callable[[Match], Iterator[Change]]:
    """A kind of fault that puts one of these ops in the place of another one."""

    def finds(node: Match) -> Iterator[Change]:
        if node.is_op(of):
            for op in ops:
                yield replace_op(op, **(attributes or {}))

    return finds


kind("a ReLU that is smooth")(_instead("Softplus", of="Relu"))
kind("a ReLU that leaks")(_instead("LeakyRelu", of="Relu", attributes={"alpha": 0.01}))
kind("a ReLU that does not leak")(_instead("Relu", of="LeakyRelu"))
kind("a hard sigmoid")(_instead("HardSigmoid", of="Sigmoid", attributes={"alpha": 1 / 6, "beta": 0.5}))
kind("a soft sigmoid")(_instead("Sigmoid", of="HardSigmoid"))
kind("a soft sign for a hyperbolic tangent")(_instead("Softsign", of="Tanh"))
kind("a hard swish, or a soft one")(_instead("HardSwish", of="Swish"))
kind("a soft swish for a hard one")(_instead("Swish", of="HardSwish"))
kind("a scaled exponential unit")(_instead("Selu", of="Elu"))
kind("a softplus that is hard")(_instead("Relu", of="Softplus"))
kind("a GELU that is a swish")(_instead("Swish", of="Gelu"))
kind("an error function that is a hyperbolic tangent")(_instead("Tanh", of="Erf"))
kind("no exponential in a softmax's logarithm")(_instead("Softmax", of="LogSoftmax"))
kind("a logarithm too many")(_instead("LogSoftmax", of="Softmax"))
kind("a sum for a difference")(_instead("Add", of="Sub"))
kind("a difference for a sum")(_instead("Sub", of="Add"))
kind("a sum for a product")(_instead("Add", of="Mul"))
kind("a product for a quotient")(_instead("Mul", of="Div"))
kind("the smallest for the largest")(_instead("ArgMin", of="ArgMax"))
kind("a maximum for a minimum")(_instead("Max", of="Min"))
kind("a minimum for a maximum")(_instead("Min", of="Max"))
kind("or instead of and")(_instead("Or", of="And"))
kind("or equal, at ties: greater")(_instead("GreaterOrEqual", of="Greater"))
kind("or equal, at ties: less")(_instead("LessOrEqual", of="Less"))
kind("not equal, at ties: greater")(_instead("Greater", of="GreaterOrEqual"))
kind("not equal, at ties: less")(_instead("Less", of="LessOrEqual"))
kind("less for greater")(_instead("Less", of="Greater"))
kind("the wrong way of rounding: down")(_instead("Floor", of="Round"))
kind("the wrong way of rounding: up")(_instead("Ceil", of="Floor"))
kind("the wrong way of rounding: to the nearest")(_instead("Round", of="Floor"))
kind("the mean of a pool for its largest")(
    lambda node: _renamed(node, "MaxPool", "AveragePool", without=("storage_order",))
)
kind("the largest of a pool for its mean")(
    lambda node: _renamed(node, "AveragePool", "MaxPool", without=("count_include_pad",))
)
kind("the largest of an image for its mean")(_instead("GlobalMaxPool", of="GlobalAveragePool"))
kind("a sum for a mean")(lambda node: _renamed(node, "ReduceMean", "ReduceSum"))
kind("a maximum for a mean")(lambda node: _renamed(node, "ReduceMean", "ReduceMax"))
kind("a mean for a sum")(lambda node: _renamed(node, "ReduceSum", "ReduceMean"))


def _renamed(node: Match, op: str, other: str, without: tuple[str, ...] = ()) -> Iterator[Change]:
    """Put an op in the place of another one with the same attributes."""
    if not node.is_op(op) or len(node.node.outputs) > 1:
        return

    def change(target: ir.Node) -> None:
        target.op_type = other
        for name in without:
            target.attributes.pop(name, None)

    yield change


@kind("a missing activation")
def _missing(node: Match) -> Iterator[Change]:
    if node.is_op(*_ACTIVATIONS):
        yield bypass()


@kind("an activation too many")
def _extra(node: Match) -> Iterator[Change]:
    if node.is_op("Conv", "Gemm", "Linear", "MatMul"):
        yield through(("Relu", {}))


@kind("a missing branch of a sum")
def _no_residual(node: Match) -> Iterator[Change]:
    if node.is_op("Add") and is_float(node) and all(node.operand(s).producer() is not None for s in (0, 1)):
        yield bypass(0)
        yield bypass(1)


@kind("operands the wrong way round")
def _swapped(node: Match) -> Iterator[Change]:
    if node.is_op("Sub", "Div", "Pow", "MatMul", "Mod") or (node.is_op("Concat") and len(node.operands) == 2):
        yield swap_inputs(0, 1)


@kind("the outcomes of a condition exchanged")
def _where(node: Match) -> Iterator[Change]:
    if node.is_op("Where"):
        yield swap_inputs(1, 2)


@kind("queries for keys")
def _queries(node: Match) -> Iterator[Change]:
    if node.is_op("Attention"):
        yield swap_inputs(0, 1)


@kind("no mask")
def _no_mask(node: Match) -> Iterator[Change]:
    if node.is_op("Attention") and node.input(3) is not None:
        yield drop_input(3)


@kind("lengths of sequences that are ignored")
def _no_lengths(node: Match) -> Iterator[Change]:
    if node.is_op("LSTM", "GRU", "RNN") and node.input(4) is not None:
        yield drop_input(4)


@kind("an initial state that is ignored")
def _no_state(node: Match) -> Iterator[Change]:
    if node.is_op("LSTM", "GRU", "RNN") and node.input(5) is not None:
        yield drop_input(5)


@kind("an intermediate result in float16")
def _half(node: Match) -> Iterator[Change]:
    output = node.output
    if output.dtype == ir.DataType.FLOAT and node.is_op("Conv", "Gemm", "Linear", "MatMul", "LayerNormalization"):
        narrow, wide = int(ir.DataType.FLOAT16), int(ir.DataType.FLOAT)
        yield through(("Cast", {"to": narrow}), ("Cast", {"to": wide}))


@kind("integers that are cut off instead of rounded")
def _cut(node: Match) -> Iterator[Change]:
    if node.is_op("Round", "Floor") and node.output.dtype == ir.DataType.FLOAT:
        whole = int(ir.DataType.INT64)

        def change(target: ir.Node) -> None:
            through(("Cast", {"to": int(ir.DataType.FLOAT)}))(target)
            replace_op("Cast", to=whole)(target)
            target.outputs[0].dtype = ir.DataType.INT64

        yield change


@kind("numbers in another order behind a reshape")
def _reshape_order(node: Match) -> Iterator[Change]:
    rank = node.rank()
    if node.is_op("Reshape", "Flatten") and rank is not None and rank > 2:
        yield before(0, "Transpose", perm=[*range(rank - 2), rank - 1, rank - 2])


@kind("parts of a split exchanged")
def _parts(node: Match) -> Iterator[Change]:
    outputs = node.node.outputs
    if not node.is_op("Split") or len(outputs) < 2 or outputs[0].shape != outputs[1].shape:
        return

    def change(target: ir.Node) -> None:
        first, second = target.outputs[0], target.outputs[1]
        uses, others = list(first.uses()), list(second.uses())
        for use in uses:
            use.node.replace_input_with(use.idx, second)
        for use in others:
            use.node.replace_input_with(use.idx, first)

    yield change
