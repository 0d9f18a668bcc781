"""``GraphReader``: reads the calls of a Keras model one by one, by the rules for its layers and operations.

A layer or operation without a rule is *opened*: its ``call`` runs on ``KerasTensor``s, which records the layers and
``keras.ops`` that it uses, and these are read in turn. Variables of an opened layer are tensors meanwhile.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import keras
import onnx_ir as ir
from keras import tree

from dlbridge.frameworks.keras import compat
from dlbridge.frameworks.keras.compat import Function, Functional, Sequential
from dlbridge.frameworks.keras.graph import masks
from dlbridge.frameworks.keras.graph.building import IR_DTYPES, Builder
from dlbridge.frameworks.keras.graph.call_site import LAYERS, MISTYPED, OPERATIONS, CallSite, LayerRule, RefusalError
from dlbridge.frameworks.keras.graph.masks import mask_of, with_masks
from dlbridge.frameworks.keras.graph.opening import Opener
from dlbridge.frameworks.keras.graph.tracer import Tracer
from dlbridge.frameworks.keras.names import path_part
from dlbridge.frameworks.keras.tracing import layer_code
from dlbridge.frameworks.keras.tracing.size_questions import UnknownSizeError
from dlbridge.frameworks.keras.tracing.sizes import SymbolicSize, closure, to_array
from dlbridge.frameworks.keras.variables import RawVariable
from dlbridge.ops import stand_ins, traits
from dlbridge.ops.formulas import arithmetic_of
from dlbridge.ops.keys import is_op

#: Ops around the node that implements a layer.
_MOVING = ("Cast", "Squeeze", "Transpose", "Unsqueeze")


class GraphReader:
    """Reads one model.

    Attributes:
        build: Builds the graph.
        troubles: (path, reason) of everything that cannot be read.
        trust_code: Whether ``Lambda`` layers may run.
        losses: Paths of the layers whose code adds losses.
        training_code: Paths of the layers whose code does something else in training.
        converted: Paths of the layers whose code tf2onnx converted.
        trace: Reads the results of Python code (:meth:`Tracer.trace`).
        open_model: Reads a model without a graph by its ``call`` (:meth:`Opener.open`).
        run_code: Reads what code of a layer makes of values (:meth:`Opener.run_code`).
        activation: Applies a layer's ``activation`` to its result (:meth:`Opener.activation`).
        partial: Whether what cannot be read becomes a stand-in, whose code a person writes.
    """

    def __init__(self, build: Builder, model: Any, *, trust_code: bool = False, partial: bool = False) -> None:
        self.build, self.partial = build, partial
        self.troubles: list[tuple[str, str]] = []
        self.losses: list[str] = []
        self.training_code: list[str] = []
        self.converted: list[str] = []
        self.trust_code = trust_code
        self.functional = True
        self._tracer = Tracer(self)
        self.trace = self._tracer.trace
        opener = Opener(self)
        self._open = self.open_model = opener.open
        self.run_code, self.activation, self._inline = opener.run_code, opener.activation, opener.inline
        self._around: tuple[MutableMapping[int, ir.Value], Any] = {}, None
        self._raw: dict[int, RawVariable] = {}
        everything = model._flatten_layers() if isinstance(model, keras.layers.Layer) else []
        self.leaves = {layer.name for layer in getattr(model, "_layers", ()) if _rule(layer) is not None}
        self.buffers = {id(v) for layer in everything for v in layer._non_trainable_variables}

    def forget(self) -> None:
        """Remove all traces of reading from the model."""
        self._tracer.recording.forget()

    # --- graphs ------------------------------------------------------------------------------------------------------

    def run(self, function: Function, inputs: list[ir.Value], path: str) -> Any:
        """Read a functional graph, and return its outputs, nested as the graph's are."""
        frame = {id(t): v for t, v in zip(function._inputs, inputs, strict=True)}
        for depth in sorted(function._nodes_by_depth, reverse=True):
            for node in function._nodes_by_depth[depth]:
                if not node.is_input and all(id(t) in frame for t in node.input_tensors):
                    self.apply(node, frame, path, None)
        return tree.map_structure(lambda t: frame[id(t)], function._outputs_struct)

    def add_loss(self, _: Any = None) -> None:
        """Record that a layer's code adds a loss, which matters in training only."""
        where = self.build.path
        if where not in self.losses:
            self.losses.append(where)

    def note_training(self, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any], layer: Any) -> None:
        """Record that a layer's code does something else in training, if it does."""
        where = self.build.path
        if where not in self.training_code and not self._tracer.is_same_in_training(function, args, kwargs, layer):
            self.training_code.append(where)

    # --- calls -------------------------------------------------------------------------------------------------------

    def apply(
        self, node: Any, frame: MutableMapping[int, ir.Value], path: str, holder: Any, flat: bool = False
    ) -> None:
        """Read one call, and enter its outputs into the frame."""
        args, kwargs = node.arguments.convert(lambda t: frame[id(t)] if isinstance(t, keras.KerasTensor) else t)
        operation = node.operation
        self.functional = holder is None  # there Keras itself replaces what was said of training
        name, anonymous = layer_code.name_of(operation, holder, self.leaves)
        flat = flat and anonymous
        if flat:
            where = path
        elif path:
            where = f"{path}.{name}"
        else:
            where = name
        before, self._around = self._around, (frame, holder)
        try:
            with self.build.at(where), self._tracer.masks_of(node, frame):
                result = self.call(operation, args, kwargs, anonymous=anonymous, flat=flat, outputs=node.outputs)
                result = tree.map_structure(self.value, result)
                result = [self._typed(operation, v, t) for v, t in zip(tree.flatten(result), node.outputs, strict=True)]
                self._tracer.check_masks(node, result)
        except (RefusalError, UnknownSizeError) as refusal:
            if self.partial:
                result = self._stand_in(operation, [*args, *kwargs.values()], node.outputs, f"{where}: {refusal}")
                frame.update({id(t): v for t, v in zip(node.outputs, result, strict=True)})
                return
            self.troubles.append((where, f"{type(operation).__name__}: {refusal}"))
            result = [_unread_value(t) for t in node.outputs]
        finally:
            self._around = before
        for tensor, value in zip(node.outputs, tree.flatten(result), strict=True):
            frame[id(tensor)] = value

    def run_inner(self, function: Callable[..., Any], *args: Any) -> Any:
        """Read a function that is an argument of the present operation, into the present body."""
        frame, holder = self._around
        return self.trace(function, args, {}, holder, flat=True, around=frame)

    def evaluate_captured(self, function: Callable[..., Any]) -> None:
        """Read the tensors that such a function captures, so that their nodes precede its body."""
        frame, holder = self._around
        for item in tree.flatten(closure(function)):
            if isinstance(item, keras.KerasTensor):
                self._tracer.evaluate(item, frame, holder, True)
            elif inspect.isfunction(item) and item is not function:
                self.evaluate_captured(item)

    def _stand_in(self, operation: Any, arguments: Any, outputs: Sequence[Any], note: str) -> list[ir.Value]:
        """Add a stand-in for an operation that cannot be read, whose code a person will write."""
        tensors = [v for v in tree.flatten(arguments) if isinstance(v, ir.Value)]
        likes = [_unread_value(t) for t in outputs]
        kind = type(operation).__name__
        types = [(v.dtype, v.shape) for v in likes]
        node = stand_ins.stand_in(kind, tensors, types, f"keras {kind} at {note}")  # type: ignore[arg-type]
        return self.build.stand_in(node)

    def value(self, item: Any) -> ir.Value:
        """The result of a rule or an opened layer as a value; variables and arrays become values too."""
        if isinstance(item, ir.Value):
            return item
        if compat.is_variable(item):
            return self.variable(item)
        return self.build.value(to_array(item))

    def result(self, item: Any) -> ir.Value | None:
        """What a model's own code gives back, as a value: also a number, a size or None."""
        if item is None or isinstance(item, ir.Value):
            return item
        if isinstance(item, float):
            return self.build.value(item, ir.DataType.FLOAT)
        if isinstance(item, (int, SymbolicSize)):
            return self.build.value(item, None)
        return self.value(item)

    def _typed(self, operation: Any, value: ir.Value, tensor: Any) -> ir.Value:
        """Cast a result to its dtype in Keras; for a layer only if both dtypes are floating."""
        wanted = IR_DTYPES.get(tensor.dtype)
        if wanted is None:
            raise RefusalError(f"a result of dtype {tensor.dtype}")
        both = wanted.is_floating_point() and value.dtype is not None and value.dtype.is_floating_point()
        if type(operation).__name__ in MISTYPED or (isinstance(operation, keras.layers.Layer) and not both):
            return value
        if value.dtype in (wanted, None):
            return value
        cast = self.build.op("Cast", value, to=wanted)
        cast.meta.update(value.meta)
        return cast

    def call(
        self,
        operation: Any,
        args: tuple,
        kwargs: dict[str, Any],
        *,
        anonymous: bool = False,
        flat: bool = False,
        outputs: Sequence[Any] = (),
    ) -> Any:
        """Read a call of a layer or an operation, at the builder's path.

        Args:
            operation: The layer or operation.
            args: Positional arguments; tensors are values.
            kwargs: Keyword arguments.
            anonymous: Whether Keras made up its name.
            flat: Do not give the operation's name to one of its nodes.
            outputs: The outputs of an operation as Keras infers them.

        Raises:
            RefusalError: When there is no rule and it cannot be opened, or the rule cannot say what is asked.
        """
        if isinstance(operation, keras.layers.Layer):
            return self._call_layer(operation, args, kwargs)
        rule = OPERATIONS.get(type(operation).__name__) if compat.is_from_keras(type(operation)) else None
        if rule is None:
            if compat.is_from_keras(type(operation)):
                raise RefusalError(
                    f"keras.ops has no reading rule for it; add @operation('{type(operation).__name__}')"
                )
            return self._open(operation, args, kwargs)
        site = CallSite(self, operation, args, kwargs, outputs=outputs)
        with arithmetic_of(site):
            return rule(site, *args, **kwargs) if flat else self._named(lambda: rule(site, *args, **kwargs), anonymous)

    def _call_layer(self, layer: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        kwargs = dict(kwargs)
        if kwargs.pop("training", None) and not self.functional:
            raise RefusalError("it is called with training=True, so it is random or changes with each batch")
        if layer._convert_input_args:
            args, kwargs = tree.map_structure(lambda v: self._autocast(layer, v), (args, kwargs))
        explicit = kwargs.pop("mask", None)
        first = args[0] if args else next(iter(kwargs.values()), None)
        if isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional) and isinstance(explicit, list):
            explicit = explicit[0]
        mask = masks.call_mask(layer, args, kwargs, explicit)
        before = mask if any(m is not None for m in tree.flatten(mask)) else tree.map_structure(mask_of, first)
        masked = any(m is not None for m in tree.flatten(mask))
        rule = _rule(layer)
        graph = graph_of(layer)
        if graph is not None:
            result = self._nested(layer, graph, args, mask)
        elif _is_adapted(layer) and not (rule is not None and rule.lora):
            result = self._open(layer, args, with_masks(layer, args, kwargs, mask))
        elif rule is not None:
            if masked and not rule.masks:
                raise RefusalError("it is given a mask, which its rule does not use")
            if not rule.arguments and [v for v in (*args, *kwargs.values())[1:] if v is not None]:
                raise RefusalError("it is called with further arguments, which its rule does not use")
            site = CallSite(self, layer, args, kwargs, mask)
            with arithmetic_of(site):
                result = self._named(lambda: rule.function(site), False, layer_code.keras_class(layer))
        else:
            result = self._open(layer, args, with_masks(layer, args, kwargs, mask))
        masks.after_call(layer, args, kwargs, tree.flatten(result))
        masks.set_masks(self, layer, first, before, result)
        return result

    def _autocast(self, layer: Any, value: Any) -> Any:
        if not layer.autocast or not isinstance(value, ir.Value):
            return value
        cast = self.build.in_float_type(value, layer.input_dtype)
        if cast is not value:
            masks.set_mask(cast, mask_of(value))
        return cast

    def _nested(self, model: Any, graph: Function, args: tuple, mask: Any) -> Any:
        path = self.build.path
        given = [self._as_declared(v, t) for v, t in zip(tree.flatten(args[0]), graph._inputs, strict=True)]
        for value, one in zip(given, tree.flatten(mask), strict=False):
            if one is not None:
                masks.set_mask(value, one)
        self.build.blocks[path] = type(model).__name__ if type(model) not in (Functional, Sequential) else model.name
        with self.build.at(path, inside=True):
            return self.run(graph, given, path)

    def _as_declared(self, value: ir.Value, tensor: Any) -> ir.Value:
        """Cast an argument of a nested model to the dtype that the model declares."""
        if value.shape is not None and len(value.shape) != len(tensor.shape):
            raise RefusalError(f"it is given a tensor of {len(value.shape)} axes where it declares {len(tensor.shape)}")
        wanted = IR_DTYPES[tensor.dtype]
        return value if value.dtype == wanted else self.build.op("Cast", value, to=wanted)

    def _named(self, rule: Callable[[], Any], anonymous: bool, kind: type | None = None) -> Any:
        """Run a rule. If it names no node after the layer, its last node is that does more than move elements."""
        before, path = len(self.build.made), self.build.path
        result = rule()
        made = self.build.made[before:]
        if made and not any(traits.ANONYMOUS not in n.metadata_props for n in made) and path not in self.build.blocks:
            main = next((node for node in reversed(made) if not is_op(node, *_MOVING)), made[-1])
            self.build.name_after_layer(main)
            if anonymous:
                traits.mark(main, traits.ANONYMOUS)
        for node in made:
            if kind is not None and node.name == path and not traits.is_anonymous(node):
                node.metadata_props[traits.CLASS] = f"keras.layers.{kind.__name__}"
        return result

    def open(self, site: CallSite) -> Any:
        """Open a layer whose rule does not cover this call."""
        return self._open(site.layer, site.args, with_masks(site.layer, site.args, site.kwargs, site.mask))

    def inline(self, site: CallSite) -> Any:
        """What the own code of a layer or operation makes, as parts of it."""
        is_layer = isinstance(site.source, keras.layers.Layer)
        kwargs = with_masks(site.source, site.args, site.kwargs, site.mask) if is_layer else site.kwargs
        return self._inline(site.source, site.args, kwargs)

    # --- variables ---------------------------------------------------------------------------------------------------

    def variable(self, variable: Any, holder: Any = None) -> ir.Value:
        """A variable as a value, in its Keras shape; in an opened layer it is named after the layer's path."""
        if compat.raw_variable(variable):
            variable = self._raw.setdefault(id(variable), RawVariable(variable))
            self.buffers.add(id(variable))
        path = self.build.path if holder is not None else ".".join(variable.path.split("/")[:-1])
        name = ".".join(filter(None, (path, variable.name)))
        value = self.build.weight(variable, path_part(name), buffer=id(variable) in self.buffers)
        is_cast = getattr(holder, "autocast", True)
        return self.build.in_float_type(value, getattr(holder, "compute_dtype", None)) if is_cast else value


def _is_adapted(layer: Any) -> bool:
    """Whether a layer, or one that it is made of, has quantised weights or weights that LoRA adds to."""
    return any(one.quantization_mode or getattr(one, "lora_enabled", False) for one in layer._flatten_layers())


def _rule(layer: Any) -> LayerRule | None:
    """The rule of a layer's class, or of the class of ``keras.layers`` that it inherits without changing what it
    computes."""
    base = layer_code.keras_class(layer)
    if base is not None and not layer_code.computes_otherwise(type(layer), base):
        return LAYERS.get(base.__name__)
    return None


def graph_of(model: Any) -> Function | None:
    """The graph of layers that the ``call`` of a Functional or Sequential model runs; None where it has another."""
    if type(model).call not in (Functional.call, Sequential.call):
        return None
    return model if isinstance(model, Functional) else getattr(model, "_functional", None)


def _unread_value(tensor: Any) -> ir.Value:
    """A value for what could not be read, so that reading goes on and finds all problems."""
    shape = ir.Shape([d if isinstance(d, int) else None for d in tensor.shape])
    return ir.Value(name=tensor.name, type=ir.TensorType(IR_DTYPES[tensor.dtype]), shape=shape)
