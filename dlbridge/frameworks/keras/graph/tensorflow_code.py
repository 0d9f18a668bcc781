"""Layers whose code calls TensorFlow itself: traced by TensorFlow, converted by tf2onnx, and put into the graph.

The variables that the code reads, and the masks of its tensors, are further inputs of what is traced, so each stays the
very variable that it is. A variable that the code reaches in a way that cannot be followed is refused: it would become
a constant, and no parameter any more.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import onnx_ir as ir
from keras import tree

from dlbridge.errors import DlbridgeWarning
from dlbridge.frameworks.keras import compat, onnx_export
from dlbridge.frameworks.keras.files.tensorflow_ops import HANDLERS
from dlbridge.frameworks.keras.graph import masks
from dlbridge.frameworks.keras.onnx_export import ConversionError
from dlbridge.frameworks.keras.tracing import layer_code
from dlbridge.frameworks.keras.tracing.sizes import SymbolicSize
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes.constants import lift_constants
from dlbridge.passes.fold import fold
from dlbridge.passes.shapes import infer
from dlbridge.passes.upgrade import upgrade

if TYPE_CHECKING:
    from dlbridge.frameworks.keras.graph.graph_reader import GraphReader


#: Each run may find variables that the one before did not reach; more runs than this find those that the code makes.
_MAX_RUNS = 10


class _Reading(keras.StatelessScope):
    """Within this scope, variables have the values of the inputs for them; variables without an input are recorded.

    Attributes:
        values: id of a variable -> its value.
        found: id of each variable without one -> the variable.
        added: ids of the losses that layers in the layer add.
    """

    def __init__(self, values: dict[int, Any]) -> None:
        self.values, self.found, self.added = values, dict[int, Any](), set[int]()
        super().__init__(collect_losses=True)

    def add_loss(self, loss: Any) -> None:
        self.added.add(id(loss))

    def get_current_value(self, variable: Any) -> Any:
        if id(variable) in self.state_mapping:  # assigned by the code
            return self.state_mapping[id(variable)]
        if id(variable) not in self.values:
            self.found[id(variable)] = variable
        return self.values.get(id(variable))


class _Call:
    """Code of a layer as a TensorFlow function of tensors, masks and variables."""

    def __init__(self, layer: Any, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> None:
        self.layer, self.function, self.nest = layer, function, (args, kwargs)
        self.given = list(dict.fromkeys(v for v in tree.flatten(self.nest) if isinstance(v, ir.Value)))
        found = [masks.mask_of(v) for v in self.given]
        self.masks = list(dict.fromkeys(m for m in found if isinstance(m, ir.Value) and m not in self.given))
        self.variables: list[Any] = []
        self.adds_loss = False
        self.assigned: set[int] = set()
        self.result: Any = None
        self.masked: list[int] = []

    def specs(self) -> list[Any]:
        import tensorflow as tf

        values = [onnx_export.tensor_spec(v, None) for v in (*self.given, *self.masks)]
        held = [tf.TensorSpec(list(v.shape), tf.as_dtype(v.dtype)) for v in self.variables]
        return [tf.TensorSpec(s.shape, s.dtype, f"input_{i}") for i, s in enumerate([*values, *held])]

    def traced(self) -> tuple[Any, Any, dict[int, Any]]:
        """(the function, its graph, the variables that it reads otherwise than as an input, by id)."""
        import tensorflow as tf

        specs, scopes = self.specs(), list[_Reading]()
        call = tf.function(lambda *arrays: self._run(arrays, scopes), input_signature=specs)
        graph = call.get_concrete_function().graph
        return call, graph, scopes[-1].found

    def _run(self, arrays: Any, scopes: list[_Reading]) -> list[Any]:
        import tensorflow as tf

        tensors = dict(zip((*self.given, *self.masks), arrays, strict=False))
        held = {id(v): a for v, a in zip(self.variables, arrays[len(tensors) :], strict=True)}
        for value in self.given:
            mask = masks.mask_of(value)
            if mask is not None:
                compat.set_keras_mask(tensors[value], tensors[mask])
        scopes.append(_Reading(held))
        with scopes[-1] as scope:
            layer = layer_code.shadow(self.layer, lambda v: self._replacement(v, held, scope), self._add_loss, {})
            _without_traces(layer)
            packed, named = tree.map_structure(lambda v: tensors[v] if isinstance(v, ir.Value) else v, self.nest)
            result = self.function(layer, *packed, **named)
        for part in self.layer._flatten_layers() if scope.added else ():
            getattr(part, "_loss_ids", set[int]()).difference_update(scope.added)
        self.adds_loss |= bool(scope.added)
        self.assigned = set(scope.state_mapping)
        flat = [r for r in tree.flatten(result) if r is not None]
        found = [compat.get_keras_mask(r) for r in flat]
        self.result = tree.map_structure(lambda r: r if r is None else 0, result)
        self.masked = [i for i, mask in enumerate(found) if mask is not None]
        return [tf.identity(r) for r in (*flat, *(m for m in found if m is not None))]

    def _add_loss(self, _: Any) -> None:
        self.adds_loss = True

    def _replacement(self, variable: Any, held: dict[int, Any], scope: _Reading) -> Any:
        """The replacement of a variable in an attribute of the layer."""
        if isinstance(variable, keras.Variable):
            return variable  # the scope gives its value
        if id(variable) not in held:
            scope.found[id(variable)] = variable
        return held.get(id(variable), variable)


def _without_traces(layer: Any) -> None:
    """Let the methods of a layer that are functions of TensorFlow run as Python: what TensorFlow has traced of them
    before holds on to the variables themselves."""
    for kind in type(layer).__mro__:
        for name, item in vars(kind).items():
            python = getattr(item, "python_function", None)
            if python is not None and name not in vars(layer):
                layer.__dict__[name] = python.__get__(layer)


def read_call(
    reader: GraphReader, layer: Any, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
) -> Any:
    """Convert a call of a layer's code by tf2onnx, and return its results, nested as the code returns them.

    Args:
        reader: Receives the nodes and weights.
        layer: The layer.
        function: Its code, a function of the layer and the arguments.
        args: The arguments; the values in it are tensors.
        kwargs: The keyword arguments, likewise.

    Raises:
        ConversionError: When it cannot be converted.
    """
    if keras.backend.backend() != "tensorflow":
        raise ConversionError("Keras does not run on TensorFlow")
    import tf2onnx

    def as_tensor(item: Any) -> Any:  # TensorFlow would compute with the number that stands for a size
        return reader.build.value(item, ir.DataType.INT32) if isinstance(item, SymbolicSize) else item

    call = _Call(layer, function, *tree.map_structure(as_tensor, (args, kwargs)))

    def convert() -> Any:
        """Trace it to find the variables, and again with them as inputs, until all of them are; then convert it."""
        traced, graph, found = call.traced()
        for _ in range(_MAX_RUNS):
            if not found:
                break
            call.variables += found.values()
            traced, graph, found = call.traced()
        lost = sorted({v.name for v in (*graph.variables, *found.values())})
        if lost:
            raise ConversionError(
                f"its code reads the variable(s) {', '.join(lost)} in a way that cannot be followed: hold them in "
                "attributes of the layer, make them in build, and call no tf.function that closes over them"
            )
        opset = onnx_export.NEWEST_OPSET
        return tf2onnx.convert.from_function(traced, call.specs(), opset=opset, custom_op_handlers=HANDLERS)

    ir_model = onnx_export.converted(convert)
    if call.adds_loss:
        reader.add_loss()
    reader.converted.append(reader.build.path)
    held = [reader.variable(v, layer if _is_of(v, layer) else None) for v in call.variables]
    inputs = [*call.given, *call.masks, *held]
    model = _standard(ir_model, inputs)
    _tell_of_state(reader.build.path or layer.name, call, model)
    results = _inline(reader, model, inputs)
    count = len(results) - len(call.masked)
    for place, mask in zip(call.masked, results[count:], strict=True):
        masks.set_mask(results[place], mask)
    left = iter(results[:count])
    return tree.map_structure(lambda r: r if r is None else next(left), call.result)


def _tell_of_state(path: str, call: _Call, model: Model) -> None:
    """Warn of variables that one call leaves for the next: the code assigns to them, and reads what was in them."""
    held = model.graph.inputs[-len(call.variables) :] if call.variables else []
    kept = [v.name for v, value in zip(call.variables, held, strict=True) if id(v) in call.assigned and value.uses()]
    if kept:
        then = "what is written begins each call with what the layer holds now"
        warnings.warn(
            f"{path}: its code keeps {', '.join(kept)} for its next call; {then}", DlbridgeWarning, stacklevel=2
        )


def _is_of(variable: Any, layer: Any) -> bool:
    """Whether a variable belongs to the layer itself and not to a layer inside of it."""
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    return any(variable is v for v in own) or compat.raw_variable(variable)


def _standard(ir_model: ir.Model, given: list[ir.Value]) -> Model:
    """Upgrade what tf2onnx wrote to ``IR_OPSET``, fold its constants and infer its shapes."""
    upgrade(ir_model)
    onnx_export.order_inputs(ir_model.graph, len(given))
    for own, value in zip(ir_model.graph.inputs, given, strict=True):
        own.type, own.shape = value.type, value.shape
    for value in ir_model.graph.outputs:
        value.shape = None
    for number, node in enumerate(ir_model.graph.all_nodes()):
        node.name = f"node_{number}"
    model = Model(ir_model)
    lift_constants(model.graph)
    infer(model.ir)
    fold(model.ir)
    return model


def _inline(reader: GraphReader, model: Model, given: list[ir.Value]) -> list[ir.Value]:
    """Move the nodes of a model into the graph that is being read, and return its outputs there."""
    graph, build = model.graph, reader.build
    results = list(graph.outputs)
    graph.outputs.clear()
    moved = dict(zip(graph.inputs, given, strict=True))
    for name, value in list(graph.initializers.items()):
        del graph.initializers[name]
        moved[value] = build.constant(value.const_value.numpy(), value.const_value.dtype)  # type: ignore[union-attr]
    for old, new in moved.items():
        ir.convenience.replace_all_uses_with(old, new)
    for node in list(graph):
        graph.remove(node)
        node.name = build.node_name(f"{build.path}.{node.op_type.lower()}" if build.path else node.op_type.lower())
        traits.mark(node, traits.ANONYMOUS)
        for value in node.outputs:
            value.name = build.value_name()
        build.graph.append(node)
        build.made.append(node)
    return [moved.get(v, v) for v in results]
