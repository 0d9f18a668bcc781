"""``Recording``: the calls of layers and ``keras.ops`` that code makes on tensors without numbers.

Keras tells the operation that made a tensor of each call that reads it. A ``TracedTensor`` gives a listener for that
operation, so a recording learns of each call in the order in which the calls are made, and makes traced tensors of
their results. Nothing of Keras is changed for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import tree

from dlbridge.frameworks.keras import compat
from dlbridge.frameworks.keras.tracing import size_arrays
from dlbridge.frameworks.keras.tracing.size_questions import UnknownSizeError
from dlbridge.frameworks.keras.tracing.sizes import SizeBook, SymbolicSize
from dlbridge.frameworks.keras.tracing.tensor_operators import BackendOperators

#: Functions of ``keras.ops`` that make arrays of sizes -> what makes them of sizes that are not known.
_OF_SIZES: dict[str, Callable[..., Any]] = {
    "eye": size_arrays.eye,
    "identity": size_arrays.identity,
    "linspace": size_arrays.linspace,
    "tri": size_arrays.tri,
}


class RandomError(Exception):
    """Code draws random numbers that are part of the result."""


class Carried:
    """The mask of a tensor, shared by all Python objects that are the same tensor."""

    def __init__(self, mask: Any = None) -> None:
        self.mask = mask


class TracedTensor(BackendOperators):
    """A tensor without numbers, in code that is being recorded.

    Attributes:
        recording: What it is recorded by.
        node: The call that made it; None of what is given to the code.
        carried: Its mask.
    """

    recording: Recording
    node: Any = None
    carried: Carried

    @property
    def _keras_history(self) -> Any:
        return compat.KerasHistory(self.recording, 0, 0)

    @_keras_history.setter
    def _keras_history(self, _: Any) -> None:
        """Ignored: the recording has this already."""

    @property
    def _keras_mask(self) -> Any:
        return self.carried.mask

    @_keras_mask.setter
    def _keras_mask(self, mask: Any) -> None:
        self.carried.mask = mask

    @property
    def sparse(self) -> bool:
        """False: Keras takes what is multiplied by a number for sparse, and then calls layers on sparse tensors."""
        return False

    def __getitem__(self, key: Any) -> Any:
        return _get_item(self, key)


class SymbolicVariable(TracedTensor):
    """A variable as a tensor without numbers.

    Attributes:
        variable: The variable, where no value of the graph has been made for it yet.
    """

    variable: Any = None

    @property
    def value(self) -> SymbolicVariable:
        return self


class Recording(compat.RecordingScope):
    """The calls that the code of one model makes on tensors without numbers, over several runs.

    Attributes:
        book: The sizes that are not known.
        nodes: The calls, in their order.
        masks: Call -> id of each of its tensors -> the mask that the tensor carried then.
        symbol: Gives the tensor of a variable in the run of now.
        entered: Is called with each call.
        result_of: Gives the result of a layer's call; None where what the layer says of itself holds.
    """

    def __init__(
        self,
        book: SizeBook,
        entered: Callable[[Any], None],
        result_of: Callable[[Any, tuple, dict[str, Any]], Any] = lambda *call: None,
    ) -> None:
        super().__init__()
        self.book, self.entered, self.result_of = book, entered, result_of  # type: ignore[method-assign, assignment]
        self.nodes: list[Any] = []
        self.masks: dict[Any, dict[int, Any]] = {}
        self.symbol: Callable[[Any], Any] = lambda variable: variable
        self._outbound_nodes = self
        self._inbound_nodes: list[Any] = []

    @contextmanager
    def run(self, symbol: Callable[[Any], Any]) -> Iterator[None]:
        """Within the block, record the calls that this thread makes."""
        before, self.symbol = self.symbol, symbol
        self.state_mapping: dict[int, Any] = {}
        try:
            with compat.wrapped(), self:
                yield
        finally:
            self.symbol = before

    def forget(self) -> None:
        """Remove the recorded nodes from the layers that were called, which belong to the user's model."""
        for node in self.nodes:
            calls = node.operation._inbound_nodes
            calls[:] = [call for call in calls if call is not node]
        self.nodes.clear()
        self.masks.clear()

    # --- what Keras enters --------------------------------------------------------------------------------------------

    def append(self, node: Any) -> None:
        """Record a call that reads a traced tensor."""
        if self.nodes and self.nodes[-1] is node:
            return  # it reads several
        self.nodes.append(node)
        self.masks[node] = {id(t): compat.get_keras_mask(t) for t in node.input_tensors}
        given = {id(t) for t in node.input_tensors}
        for tensor in node.outputs:
            if id(tensor) not in given:
                self.adopt(tensor, node)
        self.entered(node)

    def adopt(self, tensor: Any, node: Any) -> Any:
        """A result as a traced tensor, whose shape has the sizes that are not known found again."""
        carried = Carried(tensor.__dict__.pop("_keras_mask", None))
        tensor.__class__ = TracedTensor
        tensor.recording, tensor.node, tensor.carried = self, node, carried
        tensor._shape = self.book.of_shape(tensor._shape)
        return tensor

    def given(self, shape: list[Any], dtype: str, *, variable: bool) -> Any:
        """A tensor that is passed to the code."""
        kind = SymbolicVariable if variable else TracedTensor
        tensor = keras.KerasTensor(shape, dtype=dtype)
        tensor.__class__ = kind
        tensor.recording, tensor.carried, tensor._shape = self, Carried(), self.book.of_shape(shape)
        return tensor

    # --- where code leaves the usual course of Keras ------------------------------------------------------------------

    def symbols(self, item: Any) -> Any:
        if not any(compat.is_variable(i) for i in tree.flatten(item)):
            return item
        return tree.map_structure(lambda i: self.symbol(i) if compat.is_variable(i) else i, item)

    def created(self, name: str, arguments: dict[str, Any]) -> Any:
        if name == "arange":
            return self._arange(**arguments)
        if name in _OF_SIZES:
            sizes = any(isinstance(value, SymbolicSize) for value in arguments.values())
            return _OF_SIZES[name](**arguments) if sizes else None
        if name in ("cast", "convert_to_tensor"):
            return self._number(**arguments)
        number = {"zeros": 0, "ones": 1}.get(name)
        return self._full(**arguments) if number is None else self._full(fill_value=number, **arguments)

    def drawn(self, name: str, *args: Any, **kwargs: Any) -> Any:
        raise RandomError(f"it draws random numbers at inference (keras.random.{name})")

    def _called(self, operation: Any, *args: Any) -> Any:
        made = operation.symbolic_call(*args)
        if isinstance(made, TracedTensor):
            return made
        node = operation._inbound_nodes[-1]
        self.nodes.append(node)
        return self.adopt(made, node)

    def _arange(self, start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
        plain = all(v is None or isinstance(v, int) for v in (start, stop, step))
        if not plain and dtype is None:
            return None
        first, last = (0, start) if stop is None else (start, stop)
        if step is None:
            step = 1
        operation = compat.Arange(dtype=dtype or "int32")
        if any(isinstance(v, SymbolicSize) for v in (first, last)) and isinstance(step, int):
            count = (last - first + step - (1 if step > 0 else -1)) // step
            operation.compute_output_spec = lambda *_: keras.KerasTensor((count,), dtype=operation.dtype)
        return self._called(operation, first, last, step)

    def _number(self, x: Any, dtype: Any = None, **_: Any) -> Any:
        """A size as a tensor of no axes."""
        if not isinstance(x, SymbolicSize):
            return None
        return self._called(compat.Full(shape=(), dtype=dtype or "int32"), x)

    def _full(self, shape: Any, fill_value: Any, dtype: Any = None) -> Any:
        sizes = list(shape) if isinstance(shape, (list, tuple)) else [shape]
        if not any(isinstance(s, SymbolicSize) for s in sizes):
            return None
        operation = compat.Full(shape=tuple(sizes), dtype=dtype or keras.config.floatx())
        return self._called(operation, fill_value)


def _get_item(tensor: TracedTensor, key: Any) -> Any:
    """``tensor[key]``; a slice up to a size that is not known is as long as that says (Keras would cut it at a size
    that stands for it), and a slice may stand alone."""
    keys = list(key) if isinstance(key, (tuple, list)) else [key]
    operation = compat.GetItem()
    if any(isinstance(k, slice) and any(isinstance(e, SymbolicSize) for e in (k.start, k.stop)) for k in keys):
        plain = [slice(None) if isinstance(k, slice) else k for k in keys]
        shape = list(operation.compute_output_spec(tensor, tuple(plain)).shape)
        shape = list(tensor.recording.book.of_shape(shape))
        place = 0
        for one in keys[: keys.index(Ellipsis) if Ellipsis in keys else None]:
            if isinstance(one, slice):
                shape[place] = _length(one, shape[place])
            place += not isinstance(one, int)
        operation.compute_output_spec = lambda *_: keras.KerasTensor(shape, dtype=tensor.dtype)
    return operation.symbolic_call(tensor, tuple(keys))


def _length(one: slice, size: int) -> int:
    if one.step not in (None, 1):
        raise UnknownSizeError("it takes every n-th element up to a size that is not known")
    start = 0 if one.start is None else one.start
    stop = size if one.stop is None else one.stop
    from_end = [
        all(c < 0 for c in e.size.terms.values()) if isinstance(e, SymbolicSize) else e < 0 for e in (start, stop)
    ]
    start, stop = (size + e if back else e for e, back in zip((start, stop), from_end, strict=True))
    return stop - start


def node_of(tensor: Any) -> Any:
    """The call that made a tensor; None if the tensor was made outside of the recording."""
    if isinstance(tensor, TracedTensor):
        return tensor.node
    history = getattr(tensor, "_keras_history", None)
    if history is None or history.operation is None:
        return None
    return history.operation._inbound_nodes[history.node_index]


def recorded(result: Any, book: SizeBook, outer: Any = ()) -> list[Any]:
    """The recorded operations that lead to a result, with their arguments.

    The walk ends at the tensors ``outer``.
    """
    found: list[Any] = []
    seen, ends = set(), {id(t) for t in outer}
    pending = [t for t in tree.flatten(result) if isinstance(t, keras.KerasTensor)]
    while pending:
        tensor = pending.pop()
        node = node_of(tensor) if id(tensor) not in ends else None
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        own = {} if isinstance(node.operation, keras.layers.Layer) else _settings(node.operation)
        found.append([type(node.operation).__name__, book.plain([node.arguments.args, node.arguments.kwargs, own])])
        pending.extend(node.input_tensors)
    return found


def _settings(operation: Any) -> dict[str, Any]:
    kept = ("name", "_inbound_nodes", "_outbound_nodes", "_lock", "_auto_config", "_remat_mode")
    return {k: v for k, v in vars(operation).items() if k not in kept and not k.startswith("_self_")}
