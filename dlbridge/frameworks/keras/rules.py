"""The registry of Keras' writing rules, and what the rules share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.source import arrays
from dlbridge.source.arrays.dtypes import DTYPES
from dlbridge.source.op import Dim, Emit, Layer, Op, Rules
from dlbridge.source.tree.code import Code, Literal, Raw, call
from dlbridge.source.tree.expr import Call, Const, Lit
from dlbridge.source.unsigned import MODULAR, MOVING, ORDERING, Signed
from dlbridge.source.weights import Weight

#: Ops that only move elements, which Keras does for uint64 too; it computes uint64 as uint32.
_MOVING = MOVING | {"Slice", "Compress", "NonZero"}
#: Ops that compute modulo 2**64 on int64 what they do on uint64 (or have a rule of their own for it).
_MODULAR = MODULAR | {"CumProd", "Equal", "Concat", "Stack", "Tile", "ScatterElements", "ScatterND", "Sign"}


class _Signed(Signed):
    unsigned = frozenset({ir.DataType.UINT64})

    def cast(self, x: Any, dtype: ir.DataType) -> Code:
        return call("ops.cast", x, KERAS_DTYPES[dtype])

    def several(self, made: Code, types: list[ir.DataType | None], **flip: Any) -> Code:
        return call("as_uint64", made, [dtype is not None for dtype in types], **flip)


class _Wide(Op):
    """A node of two inputs that broadcast along more axes than TensorFlow's operators do: both in the common shape."""

    def __init__(self, op: Op) -> None:
        self.__dict__.update(op.__dict__)

    def _common(self, index: int, given: Any) -> Any:
        if index > 1:
            return given
        return call("broadcast_with", given, super().__getitem__(1 - index))

    def __getitem__(self, index: int) -> Any:
        return self._common(index, super().__getitem__(index))

    def operand(self, index: int) -> Any:
        return self[index]

    @property
    def tensors(self) -> list[Any]:
        return [self[i] for i, v in enumerate(self.node.inputs) if v is not None]

    def shape(self, index: int = 0) -> list[Dim] | None:
        return self.out_shape()


#: How many parts, each of axes that broadcast alike, TensorFlow's operators take on a CPU (Eigen's broadcasts).
_MOST_PARTS = 5
#: Ops of two tensors that broadcast against each other.
_BROADCASTING = frozenset(
    {"Add", "Sub", "Mul", "Div", "Mod", "Pow", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "And", "Or", "Xor"}
    | {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Max", "Min", "Sum", "Mean"}
)


def broadcasts_far(shape: list[Dim] | None, other: list[Dim] | None) -> bool:
    """Whether shapes broadcast along more parts than TensorFlow's operators take; axes side by side are one part
    when they broadcast alike, and axes that are 1 in both count for nothing."""
    if shape is None or other is None:
        return False
    rank = max(len(shape), len(other))
    if rank <= _MOST_PARTS:
        return False
    ways: list[tuple[bool, bool]] = []
    for a, b in zip([1] * (rank - len(shape)) + shape, [1] * (rank - len(other)) + other, strict=True):
        if a == 1 and b == 1:
            continue
        way = (a == 1, b == 1)
        if not ways or ways[-1] != way or (way == (False, False) and a != b):
            ways.append(way)
    return len(ways) > _MOST_PARTS


#: Weights of layers that hold state, which no optimizer changes.
STATE = frozenset({"moving_mean", "moving_variance", "batches"})
#: Ops whose rule says itself what trains.
RECURRENT = frozenset({"RNN", "LSTM", "GRU"})
#: Keras' activation in a recurrent layer -> the standard's, and the numbers (alpha, beta) that make it the same.
RECURRENT_ACTIVATIONS: dict[str, tuple[Any, ...]] = {
    "tanh": ("Tanh",),
    "sigmoid": ("Sigmoid",),
    "relu": ("Relu",),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "softsign": ("Softsign",),
    "softplus": ("Softplus",),
    "elu": ("Elu", 1.0),
    "linear": ("Affine", 1.0, 0.0),
    "leaky_relu": ("LeakyRelu", 0.2),
}
#: The domain of nodes that are legalised for Keras. They have the attributes of their ops, and further ones:
#: ``activation``: the layer's own (Linear, Conv, ConvTranspose); ``free``: the node is written without a layer, as its
#: weights are those of other layers too; ``keepdims`` (global pooling): whether the axes that it pools over are kept.
#: ``Add``, ``Mul``, ``Concat`` and the like are merging layers here; recurrent ones say more in ``recurrent_layers``.
FORM = "dlbridge.keras"


def _is_wide(op: Op) -> bool:
    broadcasting = op.key in _BROADCASTING and len(op.node.inputs) == 2
    return broadcasting and broadcasts_far(op.shape(0), op.shape(1))


class _Rules(Rules):
    def emit(self, op: Op) -> Emit:
        made = self._emit(op)
        activation = op.attr("activation") if op.key in TAKES_ACTIVATION else None
        if activation and made.layer is None:  # what it was to be part of is written without a layer
            made = Emit(call(f"keras.activations.{activation}", made.code), targets=made.targets)
        return made

    def _emit(self, op: Op) -> Emit:
        op.free = op.free or bool(op.attr("free"))
        if _is_wide(op):
            op = _Wide(op)
        values = [v for v in (*op.node.inputs, *op.node.outputs) if v is not None]
        for value in values:
            if value.dtype is not None and value.dtype not in KERAS_DTYPES:
                op.refuse(f"Keras has no dtype {value.dtype.name}")
        if op.key in _MOVING or not any(v.dtype == ir.DataType.UINT64 for v in values):
            return self._as_trained(op)
        is_exponent = op.key == "Pow" and op.dtype() != ir.DataType.UINT64
        if op.key not in ORDERING | _MODULAR and not is_exponent:
            op.refuse("Keras computes uint64 as uint32")
        signed = _Signed(op)
        return signed.narrowed(super().emit(signed))

    def _as_trained(self, op: Op) -> Emit:
        """What a rule makes of a node, with what does not train kept from it.

        A Keras layer trains all of its weights or none. Where a node has both, or a filter that is a constant, it
        reads its weights by their names.
        """
        made = super().emit(op)
        layer = made.layer
        if layer is None or op.key in RECURRENT:
            return made
        kinds = kinds_of(layer.weights, op.node)
        if kinds and kinds not in ({"parameter"}, {"frozen"}) and not op.free:
            op.free = True
            made = super().emit(op)
        elif kinds:
            layer.new = with_trainable(layer.new, kinds == {"parameter"})
        return made


def kinds_of(weights: Mapping[str, Weight], node: ir.Node) -> set[traits.Kind]:
    """The kinds of the initializers of a layer's weights, but of its state."""
    assert node.graph is not None
    found = Layer(Const(None), dict(weights)).kinds(node.graph)  # type: ignore[arg-type]
    return {kind for slot, kinds in found.items() if slot not in STATE for kind in kinds}


def with_trainable(new: Code, trains: bool) -> Code:
    """The code that makes a layer, with ``trainable=False`` where it does not train."""
    assert isinstance(new, Call)
    if new.arguments:
        return new.with_keyword("trainable", Lit(Literal(trains, "trainable", "trainable", True)))
    return new if trains else new.with_keyword("trainable", Const(False))


#: ``@rules("Relu")`` over a function ``Op -> Code | Emit`` makes it the rule of an op.
rules = _Rules("keras")

KERAS_DTYPES = DTYPES

#: Activations without a setting -> their names in Keras.
ACTIVATION_NAMES = {
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Mish": "mish",
}
ACTIVATION_NAMES |= {"HardSwish": "hard_swish", "Selu": "selu", "Swish": "silu"}
#: Ops whose Keras layer takes ``activation=``.
TAKES_ACTIVATION = {"Linear", "Conv", "ConvTranspose"}


def keras_dtype(op: Op, dtype: ir.DataType) -> Raw:
    """A dtype as Keras calls it, quoted; refused by name when Keras has none."""
    if dtype not in KERAS_DTYPES:
        op.refuse(f"Keras has no dtype {dtype.name}")
    return Raw(f'"{KERAS_DTYPES[dtype]}"')


def ints(op: Op, index: int) -> Any:
    """The elements of an integer input: a list of numbers and Python expressions, or code that reads the tensor."""
    found = op.ints(index)
    return call("to_list", op[index]) if found is None else found


def number(op: Op, index: int) -> Any:
    """The one element of an input: a number, a Python expression, or code that reads the tensor."""
    x = 'ops.cast({}, "float32")' if op.dtype(index) == ir.DataType.BFLOAT16 else "{}"  # which NumPy has not
    return arrays.number(op, index, f"ops.convert_to_numpy({x}).item()")


def in_dtype(op: Op, result: Any, dtype: ir.DataType | None = None) -> Code:
    """A result in a dtype (by default the output's) that Keras would not give it."""
    return call("ops.cast", result, keras_dtype(op, dtype or op.out_dtype()))
