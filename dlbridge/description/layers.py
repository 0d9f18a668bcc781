"""The ops that have weights: the names, shapes and initial values of these.

A rule takes the :class:`Facts` of a node and yields its weights, in the order of the op's inputs. Defaults are those of
Keras: Glorot uniform for kernels, orthogonal for recurrent kernels, zeros for biases, 1 for an LSTM's forget gate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from dlbridge.errors import DescriptionError, ShapeError
from dlbridge.ops.traits import Kind


@dataclass(frozen=True)
class Weight:
    """A weight of a node: the input that it is, its name below the node's, its shape, and how it starts."""

    slot: int
    name: str
    shape: tuple[int, ...]
    init: Mapping[str, Any]
    kind: Kind = "parameter"


@dataclass
class Facts:
    """What is known of a node when its weights are created.

    Attributes:
        op: The op type.
        inputs: The values given so far, by slot; None where a weight is wanted.
        attributes: Attributes by name, as Python values.
        sizes: The sizes that a person gave: ``channels``, ``features``, ...
        bias: Whether an optional bias is wanted.
    """

    op: str
    inputs: list[ir.Value | None]
    attributes: Mapping[str, Any]
    sizes: Mapping[str, int] = field(default_factory=dict)
    bias: bool = True

    def value(self, slot: int) -> ir.Value | None:
        return self.inputs[slot] if slot < len(self.inputs) else None

    def shape(self, slot: int = 0) -> ir.Shape:
        value = self.value(slot)
        if value is None or value.shape is None:
            name = value.name if value is not None else "its input"
            raise ShapeError(f"{self.op} needs to know the shape of {name}, which is not known")
        return value.shape

    def rank(self, at_least: int) -> int:
        """Rank of the input; an error if it is too low for the op."""
        rank = len(self.shape())
        if rank < at_least:
            raise ShapeError(f"{self.op} takes inputs of rank {at_least} or more, not the shape {self.shape()}")
        return rank

    def dim(self, axis: int, slot: int = 0) -> int:
        """A size of an input, which must be a number for the weights to have a shape."""
        shape = self.shape(slot)
        if not -len(shape) <= axis < len(shape):
            raise ShapeError(f"{self.op} needs an axis {axis} of its input, whose shape is {shape}")
        size = shape[axis]
        if not isinstance(size, int):
            raise ShapeError(
                f"{self.op} needs the size of axis {axis} of its input, whose shape is {shape}",
                hint="weights have fixed sizes: give the input's shape as a number there",
            )
        return size

    def size(self, name: str, slot: int, axis: int, times: int = 1) -> int:
        """A size that the description states, or that of the weight in ``slot``."""
        given = self.value(slot)
        if name in self.sizes:
            return self.sizes[name]
        size = given.shape[axis] if given is not None and given.shape is not None else None
        if isinstance(size, int):
            return size * times
        raise DescriptionError(f"{self.op} needs '{name}'", hint=f"for example: {{op: {self.op}, {name}: 16}}")

    def ints(self, name: str, slot: int) -> tuple[int, ...]:
        """An attribute that is a kernel's shape, or what the weight in ``slot`` says."""
        if name in self.attributes:
            return tuple(self.attributes[name])
        given = self.value(slot)
        if given is not None and given.shape is not None:
            return tuple(s for s in list(given.shape)[2:] if isinstance(s, int))
        raise DescriptionError(f"{self.op} needs '{name}'", hint=f"for example: {name}: [3, 3]")

    def attribute(self, name: str, default: Any) -> Any:
        return self.attributes.get(name, default)


Rule = Callable[[Facts], Iterator[Weight]]

#: Op -> its rule.
RULES: dict[str, Rule] = {}
#: Op -> names of the sizes that a description states.
SIZES: dict[str, tuple[str, ...]] = {}
#: Op -> names of its weights and their slots.
NAMES: dict[str, dict[str, int]] = {}

_KERNEL = {"kind": "glorot_uniform"}
_ZEROS = {"kind": "zeros"}
_ONES = {"kind": "ones"}


def _layer(op: str, sizes: tuple[str, ...] = (), **names: int) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES[op], SIZES[op], NAMES[op] = rule, sizes, names
        return rule

    return register


def settings(op: str) -> dict[str, str]:
    """The keys of an op that are neither attributes nor inputs of the standard, with their types' names."""
    return {
        **dict.fromkeys(SIZES.get(op, ()), "Setting.int"),
        **{n: "Setting.input" for n in NAMES.get(op, ()) if n != "bias"},
    }


# --- rules ------------------------------------------------------------------------------------------------------------


@_layer("Linear", ("features",), weight=1, bias=2)
def _linear(f: Facts) -> Iterator[Weight]:
    features = f.size("features", 1, 0)
    yield Weight(1, "weight", (features, f.dim(-1)), _KERNEL)
    if f.bias:
        yield Weight(2, "bias", (features,), _ZEROS)


@_layer("Embedding", ("count", "size"), weight=1)
def _embedding(f: Facts) -> Iterator[Weight]:
    yield Weight(1, "weight", (f.size("count", 1, 0), f.size("size", 1, 1)), {"kind": "uniform"})


@_layer("Conv", ("channels",), weight=1, bias=2)
def _conv(f: Facts) -> Iterator[Weight]:
    f.rank(3)
    group = f.attribute("group", 1)
    channels, entering = f.size("channels", 1, 0), f.dim(1)
    if entering % group or channels % group:
        raise ShapeError(f"Conv with group {group} cannot take {entering} channels and make {channels}")
    yield Weight(1, "weight", (channels, entering // group, *f.ints("kernel_shape", 1)), _KERNEL)
    if f.bias:
        yield Weight(2, "bias", (channels,), _ZEROS)


@_layer("ConvTranspose", ("channels",), weight=1, bias=2)
def _conv_transpose(f: Facts) -> Iterator[Weight]:
    f.rank(3)
    group = f.attribute("group", 1)
    channels, entering = f.size("channels", 1, 1, times=group), f.dim(1)
    if entering % group or channels % group:
        raise ShapeError(f"ConvTranspose with group {group} cannot take {entering} channels and make {channels}")
    yield Weight(1, "weight", (entering, channels // group, *f.ints("kernel_shape", 1)), _KERNEL)
    if f.bias:
        yield Weight(2, "bias", (channels,), _ZEROS)


@_layer("BatchNormalization", (), weight=1, bias=2, running_mean=3, running_var=4)
def _batch_norm(f: Facts) -> Iterator[Weight]:
    shape = (f.dim(1),)
    yield Weight(1, "weight", shape, _ONES)
    yield Weight(2, "bias", shape, _ZEROS)
    yield Weight(3, "running_mean", shape, _ZEROS, "buffer")
    yield Weight(4, "running_var", shape, _ONES, "buffer")


@_layer("InstanceNormalization", (), weight=1, bias=2)
@_layer("GroupNormalization", (), weight=1, bias=2)
def _scale_and_bias(f: Facts) -> Iterator[Weight]:
    f.rank(3)
    yield Weight(1, "weight", (f.dim(1),), _ONES)
    yield Weight(2, "bias", (f.dim(1),), _ZEROS)


@_layer("LayerNormalization", (), weight=1, bias=2)
def _layer_norm(f: Facts) -> Iterator[Weight]:
    shape = _normalized(f)
    yield Weight(1, "weight", shape, _ONES)
    if f.bias:
        yield Weight(2, "bias", shape, _ZEROS)


@_layer("RMSNormalization", (), weight=1)
def _rms_norm(f: Facts) -> Iterator[Weight]:
    yield Weight(1, "weight", _normalized(f), _ONES)


def _normalized(f: Facts) -> tuple[int, ...]:
    rank = f.rank(1)
    axis = f.attribute("axis", -1)
    return tuple(f.dim(a) for a in range(axis % rank, rank))


@_layer("PRelu", (), weight=1)
def _prelu(f: Facts) -> Iterator[Weight]:
    rank = f.rank(2)
    yield Weight(1, "weight", (f.dim(1), *(1,) * (rank - 2)), {"kind": "constant", "value": 0.25})


def _recurrent(gates: int) -> Rule:
    def rule(f: Facts) -> Iterator[Weight]:
        if len(f.shape()) != 3:
            raise ShapeError(f"{f.op} takes inputs of shape (time, batch, features), not {f.shape()}")
        if "hidden_size" not in f.attributes:
            raise DescriptionError(f"{f.op} needs 'hidden_size'", hint=f"for example: {{op: {f.op}, hidden_size: 32}}")
        hidden = f.attributes["hidden_size"]
        directions = 2 if f.attribute("direction", "forward") == "bidirectional" else 1
        stacked = {"stacked": 1}
        yield Weight(1, "weight_ih", (directions, gates * hidden, f.dim(2)), {**_KERNEL, **stacked})
        yield Weight(2, "weight_hh", (directions, gates * hidden, hidden), {"kind": "orthogonal", **stacked})
        if f.bias:
            init = {"kind": "lstm_bias", **stacked} if f.op == "LSTM" else _ZEROS
            yield Weight(3, "bias", (directions, 2 * gates * hidden), init)

    return rule


for _op, _gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
    _layer(_op, (), weight_ih=1, weight_hh=2, bias=3)(_recurrent(_gates))
