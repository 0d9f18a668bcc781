"""``CallSite``: a call of a Keras layer or operation as a reading rule sees it, and the registries of the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import keras
import ml_dtypes
import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras import compat
from dlbridge.frameworks.keras.graph.building import IR_DTYPES, TYPE_NAMES, Builder, Operand
from dlbridge.frameworks.keras.tracing import layer_code
from dlbridge.frameworks.keras.tracing.sizes import to_array
from dlbridge.ops import element_types
from dlbridge.passes.layout.axes import to_first, to_last

if TYPE_CHECKING:
    from dlbridge.frameworks.keras.graph.graph_reader import GraphReader


class RefusalError(Exception):
    """A rule cannot express a call in ONNX; the message says what of it."""


@dataclass(frozen=True)
class LayerRule:
    """A rule for a layer, and which inputs of a call it takes into account.

    Attributes:
        function: The rule.
        masks: Whether it uses the masks of its inputs, or its result does not depend on them at inference.
        arguments: Whether it uses arguments of the call beyond the first.
        lora: Whether it adds LoRA's matrices to the layer's weights; if not, such a layer is opened.
    """

    function: Callable[[CallSite], Any]
    masks: bool = False
    arguments: bool = False
    lora: bool = False


#: Class of a layer in ``keras.layers`` -> its rule.
LAYERS: dict[str, LayerRule] = {}
#: Class of an operation (``keras.ops.add`` -> ``Add``) -> its rule.
OPERATIONS: dict[str, Callable[..., Any]] = {}

#: Operations whose symbolic result has another dtype in Keras than the computed one; their rules give the right one.
MISTYPED = {"MultiHot", "PSNR", "Gcd", "Lcm", "Logsumexp", "Meshgrid", "Ndim", "Reciprocal"}


def layer(
    *names: str, masks: bool = False, arguments: bool = False, lora: bool = False
) -> Callable[[Callable[[CallSite], Any]], Callable[[CallSite], Any]]:
    """Make a function the rule of layers (see :class:`LayerRule`)."""

    def register(function: Callable[[CallSite], Any]) -> Callable[[CallSite], Any]:
        LAYERS.update(dict.fromkeys(names, LayerRule(function, masks, arguments, lora)))
        return function

    return register


def operation(
    *names: str, operands: Callable[..., Sequence[ir.Value]] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function ``(site, *arguments of the call)`` the rule of operations.

    Args:
        names: Classes of the operations.
        operands: A method of the site that makes of the arguments, all of which are operands, what the function takes.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        def rule(site: CallSite, *args: Any, **kwargs: Any) -> Any:
            return function(site, *operands(site, *args, *kwargs.values()))  # type: ignore[misc]

        OPERATIONS.update(dict.fromkeys(names, function if operands is None else rule))
        return function

    return register


def elementwise(prepare: Callable[..., Any], rows: Mapping[str, str | Callable[..., ir.Value]], **options: Any) -> None:
    """Make rules of operations that are one op of the standard, or a formula of ``ops.formulas``.

    Args:
        prepare: Returns the operands, as the op takes them, of a call and its arguments.
        rows: Class of the operation -> the op or formula.
        options: Of the op: its domain.
    """

    def register(name: str, formula: str | Callable[..., ir.Value]) -> None:
        def rule(site: CallSite, *operands: Any) -> ir.Value:
            given = prepare(site, *operands)
            return site.op(formula, *given, **options) if isinstance(formula, str) else formula(site, *given)

        OPERATIONS[name] = rule

    for name, formula in rows.items():
        register(name, formula)


#: The places before and behind all elements, as the standard's Slice has them.
FRONT, END = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def slice_ends(start: Any, stop: Any, step: int) -> tuple[Any, Any]:
    """Where a slice of Python's begins and ends, in numbers that the standard's Slice takes for what is left out."""
    first, last = (0, END) if step > 0 else (END, FRONT)
    return first if start is None else start, last if stop is None else stop


def ends_of(dtype: ir.DataType) -> tuple[Any, Any]:
    """The least and the greatest number of a type."""
    if dtype.is_floating_point():
        floats = ml_dtypes.finfo(dtype.numpy())
        return float(floats.min), float(floats.max)
    integers = np.iinfo(dtype.numpy())
    return integers.min, integers.max


def _python_type(operand: Any) -> type | None:
    """The type of a number of Python, a size that is not known among them; None of all else."""
    return next((kind for kind in (bool, int, float) if isinstance(operand, kind)), None)


class CallSite:
    """A call, as a rule sees it.

    Attributes:
        reader: Reads the graph around the call, and opens layers.
        source: The layer or operation.
        args: Positional arguments of the call; tensors are values of the graph.
        kwargs: Keyword arguments.
        mask: The mask of the first argument (values or None, nested as the argument is).
        outputs: An operation's outputs as Keras infers them (tensors without numbers).
    """

    def __init__(
        self,
        reader: GraphReader,
        source: Any,
        args: tuple,
        kwargs: dict[str, Any],
        mask: Any = None,
        outputs: Sequence[Any] = (),
    ) -> None:
        self.reader = reader
        self.build: Builder = reader.build
        self.source = source
        self.args = args
        self.kwargs = kwargs
        self.mask = mask
        self.outputs = outputs

    # --- what is given -----------------------------------------------------------------------------------------------

    @property
    def layer(self) -> Any:
        return self.source

    @property
    def kind(self) -> str:
        """The name of the layer's class in Keras, or of the Keras class that the user's class inherits."""
        own = layer_code.keras_class(self.source)
        return (own or type(self.source)).__name__

    @property
    def operation(self) -> str:
        """The name of the class of an operation: ``Add`` of ``keras.ops.add``."""
        return type(self.source).__name__

    @property
    def x(self) -> ir.Value:
        """The first argument, as a value."""
        first = self.args[0] if self.args else next(iter(self.kwargs.values()))
        if isinstance(first, (list, tuple)) and len(first) == 1:
            first = first[0]
        return self.tensor(first)

    @property
    def x_as_float(self) -> ir.Value:
        """The first argument, in the dtype that the layer computes in if it is an integer (counts of words, say)."""
        x = self.x
        is_float = x.dtype is None or x.dtype.is_floating_point()
        return x if is_float else self.cast(x, self.source.compute_dtype)

    @property
    def data_format(self) -> str:
        """The layout that an operation or a layer is told, or that of Keras' configuration."""
        return getattr(self.source, "data_format", None) or keras.config.image_data_format()

    @property
    def epsilon(self) -> float:
        """The number that an operation is told, or that of Keras' configuration."""
        return keras.config.epsilon() if self.source.epsilon is None else float(self.source.epsilon)

    @property
    def dtype(self) -> ir.DataType:
        """The dtype of the operation's result in Keras."""
        return IR_DTYPES[self.outputs[0].dtype]

    def tensor(self, operand: Any, like: ir.Value | None = None) -> ir.Value:
        """An argument as a value. What is not a tensor becomes a constant, of the dtype of ``like`` if given."""
        if isinstance(operand, ir.Value):
            return operand
        if compat.is_variable(operand):
            return self.reader.variable(operand)
        if isinstance(operand, (bool, int, float)):
            return self.build.value(operand, like.dtype if like is not None else None)
        if like is None or hasattr(operand, "dtype"):
            return self.build.value(to_array(operand))
        return self.build.constant(np.asarray(operand), like.dtype)

    def refuse(self, what: str) -> NoReturn:
        """Raise the error that the rule cannot express this in ONNX."""
        raise RefusalError(what)

    def rank(self, value: ir.Value | None = None) -> int:
        return len(self.shape(value))

    def shape(self, value: ir.Value | None = None) -> list[Any]:
        """Sizes of a value: ints, and ``SymbolicDim``s for unknown ones."""
        if value is None:
            value = self.x
        if value.shape is None:
            self.refuse("the rank of its input is not known")
        return list(value.shape)

    def axis(self, axis: int, rank: int) -> int:
        """A possibly negative axis, counted from the front."""
        return axis % rank if rank else 0

    def axes(self, value: ir.Value, axis: Any) -> list[int]:
        """An axis, or several, of a value, counted from the front and sorted; all for None."""
        rank = self.rank(value)
        if axis is None:
            return list(range(rank))
        return sorted(self.axis(int(a), rank) for a in ([axis] if isinstance(axis, int) else axis))

    def along(self, value: ir.Value, axis: int | None) -> tuple[ir.Value, int]:
        """(a value, the axis of it to work along); for None that of all its elements in a row."""
        return (self.op("Reshape", value, [-1]), 0) if axis is None else (value, self.axis(int(axis), self.rank(value)))

    def require(self, sizes: Sequence[Any], what: str) -> None:
        """Refuse what needs sizes that are known."""
        if not all(isinstance(size, int) for size in sizes):
            self.refuse(f"{what}; inputs may give it as a number, 'float32[batch,28,28,3]' (--input)")

    # --- what is made ------------------------------------------------------------------------------------------------

    def op(self, op_type: str, *inputs: Operand, **options: Any) -> Any:
        """Add a node (see :meth:`Builder.op`)."""
        first = inputs[0] if inputs else None
        if isinstance(first, ir.Value) and not options.get("domain") and not element_types.takes(op_type, first.dtype):
            self.refuse(f"{op_type} of {first.dtype.name}" if first.dtype is not None else op_type)
        return self.build.op(op_type, *inputs, **options)

    #: A formula of ``ops.formulas`` makes nodes by calling the site.
    __call__ = op

    def number(self, number: float, dtype: ir.DataType | None) -> ir.Value:
        """A number as a value without axes."""
        return self.build.value(number, dtype)

    def layer_op(self, op_type: str, *inputs: Operand, **options: Any) -> Any:
        """Add the node that implements the layer, and give it the layer's name."""
        return self.build.op(op_type, *inputs, is_layer=True, **options)

    def weight(self, variable: Any, name: str, *steps: tuple, buffer: bool = False) -> ir.Value:
        """A variable of the layer as ``<path>.<name>``, in the dtype that the layer computes in."""
        try:
            value = self.build.weight(variable, f"{self.build.path}.{name}", steps, buffer)
        except KeyError as error:
            self.refuse(str(error.args[0]))
        return self.computed(value)

    def computed(self, value: ir.Value) -> ir.Value:
        """Cast a weight to the dtype that the layer computes in."""
        return self.build.in_float_type(value, getattr(self.source, "compute_dtype", None))

    def transpose(self, value: ir.Value, perm: Sequence[int]) -> ir.Value:
        perm = [int(p) for p in perm]
        return value if perm == list(range(len(perm))) else self.op("Transpose", value, perm=perm)

    def first(self, value: ir.Value, data_format: str) -> ir.Value:
        """Transpose a batch of images (or sequences, volumes) from this layout to channels-first."""
        return value if data_format == "channels_first" else self.transpose(value, to_first(self.rank(value)))

    def last(self, value: ir.Value, data_format: str) -> ir.Value:
        """Transpose from channels-first back to this layout."""
        return value if data_format == "channels_first" else self.transpose(value, to_last(self.rank(value)))

    def cast(self, value: ir.Value, dtype: str | ir.DataType) -> ir.Value:
        """Cast a value to a dtype of Keras or onnx_ir."""
        wanted = IR_DTYPES[dtype] if isinstance(dtype, str) else dtype
        return value if value.dtype == wanted else self.op("Cast", value, to=wanted)

    def as_float(self, operand: Any) -> ir.Value:
        """An operand in a float type: Keras computes functions of integers in float32."""
        x = self.tensor(operand)
        return x if x.dtype is None or x.dtype.is_floating_point() else self.cast(x, "float32")

    def tensors(self, *operands: Any) -> list[ir.Value]:
        """Operands as values, each of its dtype."""
        return [self.tensor(operand) for operand in operands]

    def floats(self, *operands: Any) -> list[ir.Value]:
        """Operands in float types (see :meth:`as_float`)."""
        return [self.as_float(operand) for operand in operands]

    def promoted(self, *operands: Any, to: ir.DataType | None = None) -> list[ir.Value]:
        """Cast operands to the dtype in which Keras computes (``to``, by default that of the result)."""
        wanted = to or self.dtype
        found = []
        for operand in operands:
            if isinstance(operand, (bool, int, float, np.bool_)):
                found.append(self.build.value(operand, wanted))
            else:
                found.append(self.cast(self.tensor(operand), wanted))
        return found

    def common(self, *operands: Any) -> list[ir.Value]:
        """Cast operands to the dtype in which Keras compares them."""
        return self.promoted(*operands, to=self.common_dtype(*operands))

    def common_dtype(self, *operands: Any) -> ir.DataType:
        """The dtype that operands have together, by Keras' rules of promotion."""
        kinds = [_python_type(v) or TYPE_NAMES[self.tensor(v).dtype] for v in operands]  # type: ignore[index]
        return IR_DTYPES[keras.backend.result_type(*kinds)]

    def reshape(self, value: ir.Value, sizes: Sequence[Any], **options: Any) -> ir.Value:
        """Reshape to sizes of which at most one is unknown (None, -1 or symbolic)."""
        target = [s if isinstance(s, int) else -1 for s in sizes]
        if target.count(-1) > 1:
            self.refuse("a reshape to several sizes that are not known")
        return self.op("Reshape", value, target, **options)

    def squeeze(self, value: ir.Value, *axes: int) -> ir.Value:
        return self.op("Squeeze", value, list(axes))

    def unsqueeze(self, value: ir.Value, *axes: int) -> ir.Value:
        return self.op("Unsqueeze", value, list(axes))

    def slice(self, value: ir.Value, axis: int, start: int, stop: int | None, step: int = 1) -> ir.Value:
        """``value[start:stop:step]`` along an axis."""
        first, last = slice_ends(start, stop, step)
        return self.op("Slice", value, [first], [last], [axis], [step])

    def size(self, value: ir.Value, axis: int) -> ir.Value:
        """The size of an axis, an int64 vector of one."""
        return self.op("Shape", value, start=axis, end=axis + 1 if axis != -1 else None)

    def steps(self, value: ir.Value, axis: int) -> ir.Value:
        """0, 1, 2, ... along an axis, int64."""
        return self.op("Range", np.array(0), self.squeeze(self.size(value, axis), 0), np.array(1))

    def activation(self, value: ir.Value, function: Any) -> ir.Value:
        """Apply a layer's ``activation`` to its result."""
        return self.reader.activation(value, function)
