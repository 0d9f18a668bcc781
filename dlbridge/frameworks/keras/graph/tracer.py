"""``Tracer``: runs Python code of layers on tensors without numbers, and reads the calls that it makes.

Of the recorded calls, those are read on which the results depend.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import keras
import onnx_ir as ir
from keras import tree

from dlbridge.frameworks.keras import compat
from dlbridge.frameworks.keras.graph import masks
from dlbridge.frameworks.keras.graph.building import TYPE_NAMES
from dlbridge.frameworks.keras.graph.call_site import RefusalError
from dlbridge.frameworks.keras.graph.masks import mask_of, with_masks
from dlbridge.frameworks.keras.tracing import layer_code
from dlbridge.frameworks.keras.tracing.recording import (
    Carried,
    RandomError,
    Recording,
    SymbolicVariable,
    TracedTensor,
    node_of,
    recorded,
)
from dlbridge.frameworks.keras.tracing.size_questions import UnknownSizeError
from dlbridge.frameworks.keras.tracing.sizes import SizeBook, SymbolicSize

if TYPE_CHECKING:
    from dlbridge.frameworks.keras.graph.graph_reader import GraphReader

#: How many of the questions that code has asked are answered the other way where it raises.
_MOST_TURNED = 4


class _Run:
    """The tensors that represent values in one run of code.

    Attributes:
        given: id of each tensor -> (the tensor, its value).
        carried: id of what each tensor carries -> (what its value carries, what the tensor carries, the mask that it
            carried first).
    """

    def __init__(self, book: SizeBook, recording: Recording) -> None:
        self.given: dict[int, tuple[TracedTensor, ir.Value]] = {}
        self.carried: dict[int, tuple[Carried, Carried, Any]] = {}
        self._book, self._recording = book, recording
        self._tensors: dict[ir.Value, TracedTensor] = {}
        self._of_values: dict[int, Carried] = {}
        self._variables: dict[int, SymbolicVariable] = {}

    def symbol(self, value: Any) -> Any:
        """The tensor that represents a value, a size as the run's set of primes has it; else what it is itself."""
        if isinstance(value, SymbolicSize):
            return self._book.symbolic(value.size)
        if not isinstance(value, ir.Value):
            return value
        if value not in self._tensors:
            self._tensors[value] = self._made(value)
        return self._tensors[value]

    def loose(self, variable: Any) -> SymbolicVariable:
        """The tensor that represents a variable of a layer other than the opened one."""
        if id(variable) not in self._variables:
            shape, dtype = list(variable.shape), keras.backend.standardize_dtype(variable.dtype)
            tensor = self._recording.given(shape, dtype, variable=True)
            tensor.variable = variable
            self._variables[id(variable)] = tensor
        return self._variables[id(variable)]

    def _made(self, value: ir.Value) -> TracedTensor:
        assert value.dtype is not None and value.shape is not None, value.name
        sizes = [self._book.of_axis(value, axis) for axis in range(len(value.shape))]
        tensor = self._recording.given(sizes, TYPE_NAMES[value.dtype], variable=value.is_initializer())
        self.given[id(tensor)] = tensor, value
        own = masks.carried(value)
        if id(own) in self._of_values:
            tensor.carried = self._of_values[id(own)]
        else:
            tensor.carried = self._of_values[id(own)] = Carried(self.symbol(own.mask))
            self.carried[id(tensor.carried)] = own, tensor.carried, tensor.carried.mask
        return tensor


def _without_training(call: list[Any]) -> list[Any]:
    """A recorded call without what it passes on of ``training``, which layers of Keras keep."""
    kind, (args, kwargs, own) = call
    kept = [arg for arg in args if not isinstance(arg, bool)]
    return [kind, kept, {name: value for name, value in kwargs.items() if name != "training"}, own]


class Tracer:
    """Runs code of layers for a ``GraphReader``.

    Attributes:
        recording: The calls that the code makes.
    """

    def __init__(self, reader: GraphReader) -> None:
        self._reader = reader
        self.recording = Recording(reader.build.sizes, self._entered, layer_code.result_of_call)
        self._shadows: dict[type, type] = {}
        self._not_followed: set[Any] = set()

    def trace(
        self,
        function: Callable[..., Any],
        args: tuple,
        kwargs: dict[str, Any],
        holder: Any = None,
        method: bool = False,
        flat: bool = False,
        around: MutableMapping[int, ir.Value] | None = None,
    ) -> Any:
        """Read the results of a Python function of values, by calling it on ``KerasTensor``s.

        Args:
            function: Code that calls layers and ``keras.ops``.
            args: Its arguments; values are replaced by tensors.
            kwargs: Its keyword arguments, likewise.
            holder: The layer that the code belongs to, if any.
            method: Whether the first argument is the layer; a copy is passed in which variables are tensors.
            flat: Name the nodes after the present path, as parts of the layer there.
            around: The tensors of the code that the function was written in, which it may use.
        """
        book = self._reader.build.sizes
        result, run = self._record(function, args, kwargs, holder if method else None)
        outer = layer_code.captured_tensors(function)
        tensors = [*outer, *(tensor for tensor, _ in run.given.values())]
        if any(isinstance(d, SymbolicSize) for tensor in tensors for d in tensor.shape):
            first = recorded(result, book, outer)
            with book.second_set(), layer_code.sizes_of_this_set(function, book):
                again, _ = self._record(function, args, kwargs, holder if method else None)
                if first != recorded(again, book, outer):
                    raise UnknownSizeError(
                        "what it does depends on sizes that are not known, in ways that cannot be followed"
                    )
        values = ChainMap({key: value for key, (_, value) in run.given.items()}, around or {})
        for tensor in tree.flatten(result):
            if isinstance(tensor, keras.KerasTensor):
                self.evaluate(tensor, values, holder, flat)
        self._keep_masks(result, run, values, holder)
        return tree.map_structure(lambda t: values.get(id(t), t) if t is not None else None, result)

    def _record(
        self, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any], layer: Any
    ) -> tuple[Any, _Run]:
        """(the tensors that a function makes of tensors, the run that made them).

        Code that raises may have been told of a size what no input has, as ``if n % 4: raise`` was: then the last
        questions are answered the other way, one at a time.
        """
        questions = self._reader.build.sizes.questions
        before = dict(questions.asked)
        try:
            return self._run(function, args, kwargs, layer)
        except (RandomError, RefusalError):
            raise
        except Exception:  # the user's code may raise anything
            asked = dict(questions.asked)
            for question in [q for q in asked if q not in before][: -_MOST_TURNED - 1 : -1]:
                questions.turn(question)
                with suppress(Exception):  # as above; what is raised in the end is what the first run raised
                    return self._run(function, args, kwargs, layer)
                questions.turn(question)
            questions.asked = asked
            raise

    def _run(self, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any], layer: Any) -> tuple[Any, _Run]:
        run = _Run(self._reader.build.sizes, self.recording)

        def of_variable(variable: Any) -> Any:
            return run.symbol(self._reader.variable(variable, layer))

        with self.recording.run(run.loose):
            own = (
                () if layer is None else (layer_code.shadow(layer, of_variable, self._reader.add_loss, self._shadows),)
            )
            given, named = tree.map_structure(run.symbol, (args, kwargs))
            result = function(*own, *given, **named)
        return result, run

    def is_same_in_training(
        self, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any], layer: Any
    ) -> bool:
        """Whether code calls the same layers and operations in training as at inference."""
        made = []
        for training in (False, True):
            try:
                with compat.inference(layer, training):
                    result, _ = self._run(function, args, {**kwargs, "training": training}, layer)
            except Exception:  # random numbers, a variable that is assigned to, or what the user's code raises
                return False
            made.append([_without_training(call) for call in recorded(result, self._reader.build.sizes)])
        return made[0] == made[1]

    def _keep_masks(self, result: Any, run: _Run, values: MutableMapping[int, ir.Value], holder: Any) -> None:
        """Give values the masks that their tensors had at the end of the run."""

        def as_value(mask: Any) -> Any:
            if isinstance(mask, keras.KerasTensor):
                self.evaluate(mask, values, holder, True)
                return values[id(mask)]
            return None if mask is None else self._reader.value(mask)

        for of_value, of_tensor, before in run.carried.values():
            if of_tensor.mask is not before:
                of_value.mask = as_value(of_tensor.mask)
        for tensor in tree.flatten(result):
            if isinstance(tensor, TracedTensor) and id(tensor) in values:
                known = run.carried.get(id(tensor.carried))
                what = known[0] if known is not None else Carried(as_value(tensor.carried.mask))
                masks.carry(values[id(tensor)], what)

    def _entered(self, node: Any) -> None:
        """Apply to masks what a layer that is called in recorded code does to them."""
        layer = node.operation
        if not isinstance(layer, keras.layers.Layer):
            return
        args, kwargs = node.arguments.args, node.arguments.kwargs
        masks.after_call(layer, args, kwargs, node.outputs)
        if not masks.may_set_masks(layer, node.input_tensors) or layer_code.never_opened(
            layer, self._reader.trust_code
        ):
            return
        kwargs = dict(kwargs)
        explicit = kwargs.pop("mask", None)
        kwargs.pop("training", None)
        kwargs = with_masks(layer, args, kwargs, masks.call_mask(layer, args, kwargs, explicit))
        if layer._call_has_training_arg:
            kwargs["training"] = False
        try:
            result = tree.flatten(layer_code.function_of(layer)(*args, **kwargs))
        except RandomError:
            raise
        except Exception:  # the code may be the user's; where the layer is opened, TensorFlow runs it
            self._not_followed.add(node)
            return
        found = [r for r in result if isinstance(r, TracedTensor)]
        if len(found) != len(node.outputs):
            self._not_followed.add(node)
            return
        for output, one in zip(node.outputs, found, strict=True):
            if one.carried.mask is None:
                one.carried.mask = output.carried.mask
            output.carried = one.carried

    def evaluate(self, tensor: Any, frame: MutableMapping[int, ir.Value], holder: Any, flat: bool) -> None:
        """Read all calls on which a tensor depends."""
        path = self._reader.build.path
        pending = [tensor]
        while pending:
            current = pending[-1]
            if id(current) in frame:
                pending.pop()
                continue
            node = node_of(current)
            if getattr(current, "variable", None) is not None:
                frame[id(current)] = self._reader.variable(current.variable)
                continue
            if node is None:
                raise RefusalError("a tensor that comes from outside of the layer")
            carried = [m for m in self.recording.masks.get(node, {}).values() if isinstance(m, keras.KerasTensor)]
            missing = [t for t in (*node.input_tensors, *carried) if id(t) not in frame]
            if missing:
                pending.extend(reversed(missing))
            else:
                self._reader.apply(node, frame, path, holder, flat)

    @contextmanager
    def masks_of(self, node: Any, frame: MutableMapping[int, ir.Value]) -> Iterator[None]:
        """Within the block, values have the masks that their tensors had when the code made a call."""
        known = self.recording.masks.get(node)
        if known is None:  # a call in a graph of layers: what is carried now is what Keras finds
            yield
            return
        values = [(frame[id(tensor)], known[id(tensor)]) for tensor in node.input_tensors]
        before = [(value, masks.carried(value)) for value, _ in values]
        for value, mask in values:
            one = frame[id(mask)] if isinstance(mask, keras.KerasTensor) else mask
            masks.carry(value, Carried(one if one is None else self._reader.value(one)))
        try:
            yield
        finally:
            for value, what in before:
                masks.carry(value, what)

    def check_masks(self, node: Any, values: list[ir.Value]) -> None:
        """Refuse a layer whose masks differ from those that the code around it saw."""
        pairs = zip(node.outputs, values, strict=True) if node in self._not_followed else ()
        if any((mask_of(tensor) is None) != (mask_of(value) is None) for tensor, value in pairs):
            raise RefusalError("it sets a mask in code that does not run on KerasTensors; call keras.ops alone in it")
