"""``Builder``: creates the nodes, constants and weights of a graph that is being read from Keras."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras import regularizing
from dlbridge.frameworks.keras.rules import KERAS_DTYPES
from dlbridge.frameworks.keras.tracing.size_questions import UnknownSizeError
from dlbridge.frameworks.keras.tracing.sizes import SizeBook
from dlbridge.frameworks.keras.variables import hollow, snapshot
from dlbridge.ops import element_types, traits
from dlbridge.ops.strings import ML, ML_OPSET, is_text
from dlbridge.passes import shapes
from dlbridge.passes.integers import Integers
from dlbridge.passes.sizes import Size
from dlbridge.source.names import Names
from dlbridge.source.weights import View

IR_DTYPES: dict[str, ir.DataType] = {name: dtype for dtype, name in KERAS_DTYPES.items()}
IR_DTYPES["string"] = ir.DataType.STRING

#: The name that Keras has for a type.
TYPE_NAMES: dict[ir.DataType, str] = {dtype: name for name, dtype in IR_DTYPES.items()}

#: What a rule may pass as an input: a value, a number, an array, or nothing.
Operand = ir.Value | bool | int | float | np.bool_ | np.ndarray | Sequence[int] | None


class Builder:
    """Builds a graph. Nodes are in the order of their creation; the dtype and shape of each are inferred at once.

    Attributes:
        graph: The graph.
        blocks: Block path -> class name.
        path: The path that new nodes are named after.
        sizes: The unknown sizes.
        inside: Whether new nodes are located in the block ``path``; else they are beside it, as ``<path>_<op>``.
    """

    def __init__(self, name: str) -> None:
        self.graph = ir.Graph([], [], nodes=[], name=name, opset_imports={"": traits.IR_OPSET})
        self.blocks: dict[str, str] = {}
        self.path = ""
        self.inside = True
        self.made: list[ir.Node] = []
        self._into = self.graph
        self._nodes = Names()
        self._values = Names()
        self._integers = Integers()
        self._weights: dict[tuple[int, ...], tuple[ir.Value, tuple, Any]] = {}
        self._constants: dict[tuple, ir.Value] = {}
        self.sizes = SizeBook()
        self._sizes: dict[Size, ir.Value] = {}

    # --- places ------------------------------------------------------------------------------------------------------

    @contextmanager
    def at(self, path: str, *, inside: bool = False) -> Iterator[None]:
        """Within the block, name nodes after ``path``."""
        before = self.path, self.inside
        self.path, self.inside = path, inside
        try:
            yield
        finally:
            self.path, self.inside = before

    def node_name(self, wanted: str) -> str:
        """The name, with a number appended if it is in use; it counts as used from now on."""
        return self._nodes.fresh(wanted)

    def value_name(self) -> str:
        """A preliminary name for a value; in the end values are named after their nodes."""
        return self._values.fresh(f"value_{len(self.graph)}")

    def name_after_layer(self, node: ir.Node) -> None:
        """Give a node the present path as its name: it implements the layer there."""
        node.name = self.node_name(self.path)
        node.metadata_props.pop(traits.ANONYMOUS, None)

    # --- nodes -------------------------------------------------------------------------------------------------------

    def stand_in(self, node: ir.Node) -> list[ir.Value]:
        """Add a node of ``ops.stand_ins``, whose types are known; its outputs."""
        self._add(node, is_layer=False)
        return list(node.outputs)

    def _add(self, node: ir.Node, is_layer: bool) -> None:
        if is_layer:
            self.name_after_layer(node)
        else:
            if self.inside and self.path:
                joint = "."
            elif self.path:
                joint = "_"
            else:
                joint = ""
            node.name = self.node_name(f"{self.path}{joint}{node.op_type.lower()}")
            traits.mark(node, traits.ANONYMOUS)
        for value in node.outputs:
            value.name = self.value_name()
        self._into.append(node)
        self.made.append(node)

    def op(
        self,
        op_type: str,
        *inputs: Operand,
        is_layer: bool = False,
        outputs: int = 1,
        domain: str = "",
        **attributes: Any,
    ) -> Any:
        """Make a node.

        Args:
            op_type: A standard op, or one of the ``dlbridge`` domain.
            inputs: Values; numbers become constants of the type that the op asks for, lists of ints int64 ones.
            is_layer: Whether the node implements the layer at the path, and gets its name.
            outputs: How many outputs there are.
            domain: The op's domain.
            attributes: Its attributes; those that are None are left out.

        Returns:
            The output, or a list when there are several.
        """
        values = [
            v if v is None or isinstance(v, ir.Value) else self.value(v, element_types.of_number(op_type, i, inputs))
            for i, v in enumerate(inputs)
        ]
        narrow = values[0].dtype if values and values[0] is not None and domain == "" else None
        wide = element_types.wider(op_type, 0, narrow) if narrow is not None else None
        if narrow is not None and wide is not None:
            options = {"is_layer": is_layer, "outputs": outputs, **attributes}
            return element_types.in_wider(self.op, op_type, values, narrow, wide, **options)
        node = ir.node(
            op_type,
            values,
            {k: v for k, v in attributes.items() if v is not None},
            domain=domain,
            num_outputs=outputs,
        )
        if domain == ML:
            self.graph.opset_imports[ML] = ML_OPSET
        self._add(node, is_layer)
        shapes.infer_node(node, self._integers)
        return node.outputs[0] if outputs == 1 else list(node.outputs)

    def in_float_type(self, value: ir.Value, dtype: str | None) -> ir.Value:
        """A float in another float type of Keras; anything else as it is."""
        wanted = IR_DTYPES.get(dtype or "")
        if wanted is None or not wanted.is_floating_point() or value.dtype in (wanted, None):
            return value
        return self.op("Cast", value, to=wanted) if value.dtype.is_floating_point() else value

    # --- bodies of control flow --------------------------------------------------------------------------------------

    @contextmanager
    def body(self, name: str, like: Sequence[tuple[ir.DataType, Sequence[Any]]]) -> Iterator[ir.Graph]:
        """Make nodes in a subgraph, for as long as the context lasts. Constants and weights stay with the graph.

        Args:
            name: Name of the subgraph.
            like: (dtype, sizes) of each of its inputs.
        """
        graph = ir.Graph([], [], nodes=[], name=name)
        for dtype, sizes in like:
            value = ir.Value(name=self._values.fresh("given"), type=ir.TensorType(dtype), shape=ir.Shape(sizes))
            graph.inputs.append(value)
        around, sizes_around, places = self._into, dict(self._sizes), dict(self.sizes.places)
        self._into = graph
        try:
            yield graph
        finally:  # a size that is read inside is read again where it is asked for outside
            self._into, self._sizes, self.sizes.places = around, sizes_around, places

    def give(self, graph: ir.Graph, results: Sequence[tuple[ir.Value, ir.DataType]]) -> None:
        """Make values, in those dtypes, the outputs of the body in the making."""
        for value, dtype in results:
            if value.dtype != dtype:
                value = self.op("Cast", value, to=dtype)
            if value.graph is not graph or value.is_graph_input() or value in graph.outputs:
                value = self.op("Identity", value)
            graph.outputs.append(value)

    def control(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        types: Sequence[tuple[Any, Sequence[Any]]],
        **attributes: Any,
    ) -> list[ir.Value]:
        """Make a node with bodies among its attributes, whose outputs have these dtypes and sizes."""
        node = ir.node(op_type, list(inputs), attributes, num_outputs=len(types))
        self._add(node, is_layer=False)
        for value, (dtype, sizes) in zip(node.outputs, types, strict=True):
            value.dtype, value.shape = dtype, ir.Shape(sizes)
        return list(node.outputs)

    # --- operands ----------------------------------------------------------------------------------------------------

    def value(self, operand: Operand, dtype: ir.DataType | None = None) -> ir.Value:
        """An operand as a value; a number gets ``dtype``.

        Raises:
            UnknownSizeError: When an array has a size that is not known before the model runs.
        """
        if isinstance(operand, ir.Value):
            return operand
        if isinstance(operand, (list, tuple)):
            return self._vector(list(operand))
        size = self.sizes.recover(operand)
        if size is not None:
            number = self.op("Squeeze", self.size(size), [0])
            return number if dtype in (None, ir.DataType.INT64) else self.op("Cast", number, to=dtype)
        if isinstance(operand, (bool, int, float, complex, np.bool_)):
            return self.constant(np.asarray(operand), dtype)
        array = np.asarray(operand)
        if any(self.sizes.recover(d) is not None for d in array.shape):
            raise UnknownSizeError("it makes an array of a size that is not known before")
        if array.ndim == 1 and array.dtype.kind in "iu" and any(self.sizes.recover(d) is not None for d in array):
            return self._vector(list(array))
        return self.constant(array)

    def _vector(self, numbers: list[Any]) -> ir.Value:
        """Whole numbers, and sizes that are not known, as an int64 vector."""
        found = [self.sizes.recover(n) for n in numbers]
        if all(size is None for size in found):
            return self.constant(np.asarray([int(n) for n in numbers], np.int64))
        parts = [
            self.constant(np.asarray([int(n)], np.int64)) if s is None else self.size(s)
            for n, s in zip(numbers, found, strict=True)
        ]
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=0)

    def size(self, size: Size) -> ir.Value:
        """A size that is not known, as an int64 vector of one."""
        known = self._sizes.get(size)
        if known is None:
            products = [self._monomial(names, count) for names, count in size.terms.items()]
            known = products[0]
            for other in products[1:]:
                known = self.op("Add", known, other)
            self._sizes[size] = known
        return known

    def _monomial(self, names: tuple[str, ...], count: int) -> ir.Value:
        value = None if count != 1 or not names else self._named_size(names[0])
        if value is None:
            value, names = self.constant(np.array([count], np.int64)), ("", *names)
        for name in names[1:]:
            value = self.op("Mul", value, self._named_size(name))
        return value

    def _named_size(self, name: str) -> ir.Value:
        size = Size({(name,): 1})
        if size not in self._sizes:
            if name in self.sizes.recipes:
                op_type, a, b = self.sizes.recipes[name]
                terms = [
                    self.size(x) if x.number is None else self.constant(np.array([x.number], np.int64)) for x in (a, b)
                ]
                if op_type == "Div" and not a.positive:  # ONNX truncates, Python rounds down
                    terms[0] = self.op("Sub", terms[0], self.op("Mod", *terms))
                self._sizes[size] = self.op(op_type, *terms)
            else:
                value, axis = self.sizes.places[name]
                self._sizes[size] = self.op("Shape", value, start=axis, end=axis + 1)
        return self._sizes[size]

    def constant(self, array: np.ndarray, dtype: ir.DataType | None = None) -> ir.Value:
        """A constant of the graph; equal small ones are one."""
        if is_text(array):
            return self._constant(
                ir.StringTensor([str(s).encode() for s in array.reshape(-1)], shape=ir.Shape(array.shape))
            )
        if self.sizes.has(array):
            raise UnknownSizeError("it makes a constant of a size that is not known before")
        if dtype is not None and dtype != ir.DataType(ir.DataType.from_numpy(array.dtype)):
            array = array.astype(dtype.numpy())
        array = np.asarray(array, order="C")
        kind = dtype or ir.DataType.from_numpy(array.dtype)
        key = (kind, array.shape, array.tobytes()) if array.size <= 64 else None
        if key is not None and key in self._constants:
            return self._constants[key]
        value = self._constant(ir.Tensor(array, dtype=kind))
        if key is not None:
            self._constants[key] = value
        return value

    def _constant(self, tensor: ir.Tensor | ir.StringTensor) -> ir.Value:
        tensor.name = name = self._values.fresh("const")
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()))
        value.const_value = tensor
        traits.set_kind(value, "constant")
        self.graph.register_initializer(value)
        return value

    def fixed(self, name: str, array: np.ndarray) -> ir.Value:
        """A weight that does not train, which a layer of the standard has and Keras' layer lacks."""
        value = self._weight(name, lambda: array, array, array.shape)
        traits.set_kind(value, "frozen")
        return value

    # --- weights -----------------------------------------------------------------------------------------------------

    def weight(self, variable: Any, name: str, steps: tuple[tuple, ...] = (), buffer: bool = False) -> ir.Value:
        """The initializer of a Keras variable, made when it is first asked for.

        Args:
            variable: The variable. Asked for again under another order of axes, the first one is transposed.
            name: The initializer's full name (``conv1.weight``).
            steps: How Keras' array becomes the initializer (steps of ``source.weights.View``).
            buffer: Whether it is state rather than something that trains.
        """
        known = self._weights.get((id(variable),))
        if known is not None:
            value, old, _ = known
            return value if old == steps else self._converted(value, old, steps)
        view = View(name, steps)
        tensor = snapshot(variable)
        value = self._weight(name, lambda: view.read(tensor()), variable, view.read(hollow(variable)).shape)
        kind: traits.Kind = "parameter" if variable.trainable else "frozen"
        traits.set_kind(value, "buffer" if buffer else kind)
        regularizing.keep(value, [variable], steps)
        self._weights[id(variable),] = value, steps, variable
        return value

    def joined_weight(self, variables: Sequence[Any], name: str, join: Callable[..., np.ndarray], key: Any) -> ir.Value:
        """The initializer that several variables make up (the gates of two directions).

        Args:
            variables: Their arrays are what ``join`` gets.
            name: The initializer's full name.
            join: Makes the initializer's array.
            key: Tells ways to join the same variables apart.
        """
        place = (*(id(v) for v in variables), hash(key))
        if place in self._weights:
            return self._weights[place][0]
        tensors = [snapshot(v) for v in variables]
        shape = join(*(hollow(v) for v in variables)).shape
        value = self._weight(name, lambda: join(*(t() for t in tensors)), variables[0], shape)
        traits.set_kind(value, "parameter" if any(v.trainable for v in variables) else "frozen")
        regularizing.keep(value, variables)
        self._weights[place] = value, (), list(variables)
        return value

    def _weight(self, name: str, read: Callable[[], np.ndarray], variable: Any, shape: Sequence[int]) -> ir.Value:
        dtype = IR_DTYPES[keras.backend.standardize_dtype(variable.dtype)]
        name = self._values.fresh(name)
        value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))

        def load() -> ir.Tensor:
            return ir.Tensor(read(), dtype=dtype, name=name)

        value.const_value = ir.LazyTensor(load, dtype=dtype, shape=ir.Shape(shape), name=name)
        self.graph.register_initializer(value)
        return value

    def _converted(self, value: ir.Value, old: tuple[tuple, ...], new: tuple[tuple, ...]) -> ir.Value:
        """A weight that is there in another order of axes, as nodes."""
        for steps, undo in ((old[::-1], True), (new, False)):
            for what, *rest in steps:
                if what != "transpose":
                    raise KeyError(f"a weight that two layers share in forms that differ by '{what}'")
                perm = [int(p) for p in (np.argsort(rest[0]) if undo else rest[0])]
                value = self.op("Transpose", value, perm=perm)
        return value
