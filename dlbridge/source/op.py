"""``Op``: how a writer's rule sees a node, and what a rule gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.errors import UnsupportedOpError
from dlbridge.ops import attributes, traits
from dlbridge.ops.keys import is_op, layer_key
from dlbridge.passes.matching import standard_default
from dlbridge.source.arithmetic import Arithmetic, Element, Elements
from dlbridge.source.tree.code import Code, code, single
from dlbridge.source.weights import Weight

Dim = int | str | None

#: What Python raises where a rule is given what its op cannot have: files may say anything.
_SENSELESS = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass
class Layer:
    """An object that is made once and called: ``nn.Conv2d(3, 16, 3)``.

    Attributes:
        new: The code that makes it.
        weights: Slot (``weight``, ``bias``) -> how it is made of initializers.
        frozen: Slots that do not train, though their initializer does.
        called: What people call it, where its node has another name.
    """

    new: Code
    weights: dict[str, Weight] = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()
    called: str | None = None

    def kinds(self, graph: ir.Graph) -> dict[str, set[traits.Kind]]:
        """Slot -> the kinds of the initializers that it is made of (none, for one that is filled with a number)."""
        return {
            slot: {traits.kind(graph.initializers[view.initializer]) for view in weight.views}
            for slot, weight in self.weights.items()
        }

    def trains_what_is_fixed(self, graph: ir.Graph, state: frozenset[str]) -> bool:
        """Whether it would make parameters of what is none in the model: a filter that is a constant or a buffer.

        Args:
            graph: The graph of the initializers.
            state: Slots of layers that hold what no optimizer changes.
        """
        return any(found & {"constant", "buffer"} for slot, found in self.kinds(graph).items() if slot not in state)

    def identity(self, graph: ir.Graph) -> tuple[Any, ...] | None:
        """What two calls of one layer share: its code and weights; None for layers that hold nothing but constants."""
        if all(kinds <= {"constant"} for kinds in self.kinds(graph).values()):
            return None
        return self.new.key(), tuple(sorted((slot, repr(weight)) for slot, weight in self.weights.items()))


@dataclass
class Emit:
    """What a rule makes of a node.

    Attributes:
        code: The expression that computes the outputs. For a layer, the text ``{layer}`` stands for the layer.
        layer: The layer that the expression calls, if it is one.
        module: A layer that does the same as ``code`` (``nn.ReLU()`` for ``F.relu(x)``), for where a list of layers
            is printed; called with the node's first input alone.
        targets: How the outputs are unpacked, e.g. ``"{0}, ({1}, {2})"``; by default ``"{0}, {1}, ..."``.
    """

    code: Code
    layer: Layer | None = None
    module: Layer | None = None
    targets: str | None = None


@dataclass(frozen=True)
class Function:
    """A subgraph as a function of the file: called with the subgraph's inputs, then with what it captures."""

    name: str
    captured: list[ir.Value]


class Op:
    """A node, as a rule sees it.

    Inputs are by position. ``op.x`` and ``op[0]`` are the first input as a tensor in the code.
    """

    def __init__(
        self,
        node: ir.Node,
        arithmetic: Arithmetic,
        to_tensor: Callable[[Elements, ir.Value], Code],
        functions: Any = None,
        functional: bool = False,
    ) -> None:
        self.node = node
        #: Whether the node stands in a function, where no layer can live.
        self.functional = functional
        #: Whether the node reads its weights by their names: no layer holds them.
        self.free = functional
        self._arithmetic = arithmetic
        self._to_tensor = to_tensor
        self._functions = functions

    # --- inputs and outputs ----------------------------------------------------------------------------------------

    def value(self, index: int) -> ir.Value | None:
        """The value that is the input, or None when it is not given."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def has(self, index: int) -> bool:
        return self.value(index) is not None

    def __getitem__(self, index: int) -> ir.Value | Code:
        """The input as a tensor in the code."""
        value = self._value(index)
        if self._arithmetic.is_computed(value):
            elements = self._arithmetic.elements(value)
            assert elements is not None
            return self._to_tensor(elements, value)
        return value

    @property
    def x(self) -> ir.Value | Code:
        return self[0]

    @property
    def tensors(self) -> list[ir.Value | Code]:
        """All inputs that are given, as tensors."""
        return [self[i] for i, v in enumerate(self.node.inputs) if v is not None]

    def operand(self, index: int) -> Any:
        """The input as a tensor, or as a Python number where it is one (rank 0 and constant or shape arithmetic)."""
        value = self._value(index)
        if self._arithmetic.is_computed(value):
            elements = self._arithmetic.elements(value)
            assert elements is not None
            return elements.items[0] if elements.rank == 0 else self[index]
        array = self.const(index)
        if array is not None and array.ndim == 0:
            return array[()]
        return value

    def output(self, index: int = 0) -> ir.Value:
        return self.node.outputs[index]

    def used(self, index: int) -> bool:
        """Whether the node has that output and something reads it."""
        if index >= len(self.node.outputs):
            return False
        value = self.node.outputs[index]
        return bool(value.name) and (bool(value.uses()) or value.is_graph_output())

    def _value(self, index: int) -> ir.Value:
        value = self.value(index)
        if value is None:
            self.refuse(f"its input {index} is not given")
        return value  # type: ignore[return-value]

    # --- what is known of them -------------------------------------------------------------------------------------

    def const(self, index: int) -> np.ndarray | None:
        """The numbers of a constant input; None for weights (they train) and for what is computed."""
        value = self.value(index)
        if value is None or value.const_value is None or traits.kind(value) != "constant":
            return None
        return value.const_value.numpy()

    def initializer(self, index: int) -> str | None:
        """The name of the initializer that the input is and that a layer could hold, or None."""
        value = None if self.free else self.value(index)
        return value.name if value is not None and value.is_initializer() else None

    def weight(self, index: int, *steps: tuple) -> Weight | None:
        """The input as a layer's weight, or None; ``steps`` are what the framework's layout asks for on top."""
        return None if self.free else weight_of(self.value(index), *steps)

    def kernel_and_bias(self, *steps: tuple) -> dict[str, Weight] | None:
        """Inputs 1 and 2 as the weights of a layer that multiplies and adds; None where one of them is computed.

        Args:
            steps: What the framework's layout of the kernel asks for on top.
        """
        kernel, bias = self.weight(1, *steps), self.weight(2)
        if kernel is None or (self.has(2) and bias is None):
            return None
        return {"kernel": kernel} if bias is None else {"kernel": kernel, "bias": bias}

    def ints(self, index: int) -> list[Element] | None:
        """The elements of an integer input (axes, shapes, ...): numbers or Python expressions; None when not known."""
        elements = self._arithmetic.elements(self.value(index))
        return None if elements is None else list(elements.items)

    def numbers(self, index: int) -> list[int] | None:
        """The elements of an integer input when all are numbers."""
        found = self.ints(index)
        return found if found is not None and all(isinstance(i, int) for i in found) else None  # type: ignore[return-value]

    def scalar(self, index: int) -> Any:
        """The number that a constant input of one element holds, or None."""
        array = self.const(index)
        return None if array is None or array.size != 1 else array.reshape(-1)[0]

    def shape(self, index: int = 0) -> list[Dim] | None:
        return dims(self.value(index))

    def rank(self, index: int = 0) -> int:
        value = self._value(index)
        if value.shape is None:
            self.refuse(f"the rank of its input '{value.name}' is not known")
        return len(value.shape)  # type: ignore[arg-type]

    def dtype(self, index: int = 0) -> ir.DataType:
        value = self._value(index)
        if value.dtype is None:
            self.refuse(f"the dtype of its input '{value.name}' is not known")
        return value.dtype  # type: ignore[return-value]

    def dim(self, index: int, axis: int) -> Element:
        """A dimension of an input: a number, or the code that asks for it."""
        self.rank(index)
        return self._arithmetic.dim(self._value(index), axis)

    def sizes(self, index: int = 0) -> list[Element]:
        """All dimensions of an input: numbers, or the code that asks for them."""
        return [self.dim(index, axis) for axis in range(self.rank(index))]

    def out_shape(self, index: int = 0) -> list[Dim] | None:
        return dims(self.node.outputs[index])

    def out_dtype(self, index: int = 0) -> ir.DataType:
        dtype = self.node.outputs[index].dtype
        if dtype is None:
            self.refuse("the dtype of its output is not known")
        return dtype  # type: ignore[return-value]

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute; the standard's default when it is not given, then ``default``."""
        attribute = self.node.attributes.get(name)
        if attribute is not None:
            return _python(attribute.value)
        standard = standard_default(self.key, name)
        return default if standard is None else _python(standard)

    def axis(self, name: str = "axis", default: int = 0) -> int:
        """An axis attribute, counted from the front."""
        axis = self.attr(name, default)
        return axis + self.rank() if axis < 0 else axis

    @property
    def key(self) -> str:
        """What op the node is, in whichever form (``ops.keys``), for a rule that writes several."""
        return layer_key(self.node)

    def function(self, attribute: str, *, as_tuple: bool = False) -> Function:
        """A subgraph, written as a function (which returns a tuple even of one output, when ``as_tuple``)."""
        if self._functions is None:
            self.refuse("this writer writes no subgraphs")
        name = (self.node.name or "").rpartition(".")[2] or self.node.op_type
        graph = self.node.attributes[attribute].as_graph()
        return self._functions.write(graph, f"{name}_{attribute.removesuffix('_branch')}".lower(), as_tuple)

    # --- errors ----------------------------------------------------------------------------------------------------

    def refuse(self, why: str) -> None:
        """Say that this node cannot be written, and why."""
        raise UnsupportedOpError(f"{self.node.op_type}: {why}", where=self.node.name)


def _python(value: Any) -> Any:
    """An attribute's value; floats, which ONNX keeps in float32, as the decimal that was written."""
    if isinstance(value, float):
        return single(value)
    return [_python(v) for v in value] if isinstance(value, (tuple, list)) else value


def weight_of(value: ir.Value | None, *steps: tuple) -> Weight | None:
    """A value as a layer's weight: an initializer, or one that is only reshaped and transposed; else None.

    Args:
        value: An input of a node.
        steps: Further steps (see ``source.weights.View``).
    """
    before: list[tuple] = []
    while value is not None and not value.is_initializer():
        node = value.producer()
        if node is None or node.domain != "" or value.shape is None or not all(isinstance(d, int) for d in value.shape):
            return None
        if is_op(node, "Reshape"):
            before.insert(0, ("reshape", tuple(value.shape)))
        elif is_op(node, "Transpose") and "perm" in node.attributes:
            before.insert(0, ("transpose", tuple(node.attributes["perm"].as_ints())))
        else:
            return None
        value = node.inputs[0]
    return None if value is None else Weight.of(value.name or "", *before, *steps)


def bare(node: ir.Node) -> Op:
    """A node as its writing rule will see it, for a pass that must know what the rule will do."""

    def no_code(*given: Any) -> Code:
        raise NotImplementedError("a pass makes no code")

    return Op(node, Arithmetic(no_code), no_code)


def dims(value: ir.Value | None) -> list[Dim] | None:
    """A shape as ints and names; None where nothing is known."""
    if value is None or value.shape is None:
        return None
    return [d if isinstance(d, int) else d.value for d in value.shape]


class Rules:
    """The rules of a writer: one function an op, found by domain and op type."""

    def __init__(self, framework: str) -> None:
        self.framework = framework
        #: (domain, op type) -> rule.
        self.table: dict[tuple[str, str], Callable[[Op], Emit | Code]] = {}

    def __call__(self, *op_types: str, domain: str = "") -> Callable:
        """Decorator: this function writes these ops."""

        def register(rule: Callable[[Op], Emit | Code]) -> Callable[[Op], Emit | Code]:
            for op_type in op_types:
                self.table[domain, op_type] = rule
            return rule

        return register

    def has(self, node: ir.Node) -> bool:
        return (node.domain, node.op_type) in self.table

    def emit(self, op: Op) -> Emit:
        """Apply the rule of a node.

        Raises:
            UnsupportedOpError: When the rule refuses it, or its attributes and inputs make no sense to the rule.
        """
        wrong = attributes.mistake(op.node)
        if wrong is not None:
            raise UnsupportedOpError(wrong, where=op.node.name)
        try:
            made = self.table[op.node.domain, op.node.op_type](op)
        except _SENSELESS as error:
            what = f"{op.node.op_type}: its rule makes nothing of its inputs and attributes"
            raise UnsupportedOpError(f"{what} ({type(error).__name__}: {error})", where=op.node.name) from error
        return made if isinstance(made, Emit) else Emit(made)

    def check(self, nodes: list[ir.Node]) -> None:
        """Raise one error that names every op without a rule, and where it stands; of strings there is no rule."""
        _refuse_strings(self.framework, nodes)
        missing: dict[str, list[str]] = {}
        for node in nodes:
            if not self.has(node):
                missing.setdefault(f"{node.domain}.{node.op_type}".lstrip("."), []).append(node.name or "?")
        if missing:
            lines = [
                f"{op} at {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}" for op, names in missing.items()
            ]
            raise UnsupportedOpError(
                f"{self.framework} has no rule for {len(missing)} op(s):\n    " + "\n    ".join(lines),
                hint="write these by hand (--partial, partial=True), or add a rule: CONTRIBUTING.md says how",
            )


def _refuse_strings(framework: str, nodes: list[ir.Node]) -> None:
    """
    Raises:
        UnsupportedOpError: When nodes read or make strings; it says where the graph can be cut behind them.
    """
    found = [node for node in nodes if any(_is_string(v) for v in (*node.inputs, *node.outputs))]
    if not found:
        return
    names = [f"{node.name} ({node.op_type})" for node in found]
    behind = next((v.name for node in found for v in node.outputs if not _is_string(v) and v.uses()), None)
    cut = "" if behind is None else f": --from {behind}"
    raise UnsupportedOpError(
        f"{framework} has no strings, which {len(found)} node(s) read or make: "
        f"{', '.join(names[:3])}{' ...' if len(names) > 3 else ''}",
        hint="convert the model without the layers that take text, or write it as an .onnx file, which may have them, "
        f"and begin to read that behind them{cut}",
    )


def _is_string(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.STRING


__all__ = ["Emit", "Layer", "Op", "Rules", "code", "dims"]
