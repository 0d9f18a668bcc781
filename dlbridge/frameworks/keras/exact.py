"""Runs a Keras model with every float in float64: the judge of verification, and what shows where numbers depart.

The model stays as it is. It is traced into a graph of TensorFlow once, and that graph is run op by op with each float
type narrower than float64 replaced: types that layers' dtype policies and the model's code ask for, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context, execute
from tensorflow.python.framework import function_def_to_graph

from dlbridge.errors import DlbridgeError
from dlbridge.ops.evaluator import Float64Run
from dlbridge.ops.strings import as_text, is_text

_NARROW = (tf.float32, tf.float16, tf.bfloat16)
_WIDE = {tf.complex64: tf.complex128, **dict.fromkeys(_NARROW, tf.float64)}
#: What TensorFlow raises where an op has no kernel for float64, or does not take that type.
_NO_KERNEL = (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.UnimplementedError, TypeError)
#: Ops on the bits of a number, which therefore need the model's own type.
_OF_BITS = ("Bitcast", "DecodeRaw")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")

Call = Callable[[Mapping[str, Any]], Sequence[Any]]
#: Ops that sum products.
_SUMS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "Conv2D", "Conv3D"})


class Exact:
    """A Keras model in float64: arrays by input name -> arrays by output name.

    Args:
        call: Calls the live model with tensors by input name; its outputs, flat.
        outputs: Their names.

    Attributes:
        eps: That of the coarsest float type that the model has computed in.

    Raises:
        DlbridgeError: When Keras does not run on TensorFlow.
    """

    def __init__(self, call: Call, outputs: Sequence[str]) -> None:
        if keras.backend.backend() != "tensorflow":
            raise DlbridgeError(f"Keras on {keras.backend.backend()} cannot be run in float64 beside its own types")
        self.eps = 0.0
        self._call, self._outputs = call, list(outputs)
        self._graphs: dict[Any, Any] = {}

    def __call__(
        self, arrays: Mapping[str, np.ndarray], *, noise: float = 0.0, seen: list[np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Run it; see ``dlbridge.ops.evaluator.Evaluator``."""
        return self._outputs_of(arrays, _Run(noise, seen))

    def in_own_types(self, arrays: Mapping[str, np.ndarray], seen: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Run it in its own types; ``seen`` gets each array of numbers or truth values on the way."""
        return self._outputs_of(arrays, _Run(0.0, seen, wide=False))

    def _outputs_of(self, arrays: Mapping[str, np.ndarray], run: _Run) -> dict[str, np.ndarray]:
        names = sorted(arrays)
        traced = self._trace(names, arrays)
        given = [tf.convert_to_tensor(arrays[n]) for n in names]
        graph = traced.graph
        captured = traced.captured_inputs
        found = run.graph(graph, [*given, *captured])
        self.eps = max(self.eps, run.eps)
        # a constant, or a tensor that is returned twice, is an output of the graph too
        results = tf.nest.pack_sequence_as(traced.structured_outputs, found, expand_composites=True)
        made = (np.asarray(value) for value in results)
        return {name: as_text(a) if is_text(a) else a for name, a in zip(self._outputs, made, strict=True)}

    def _trace(self, names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> Any:
        specs = [tf.TensorSpec(arrays[n].shape, tf.as_dtype(arrays[n].dtype)) for n in names]
        key = tuple((tuple(s.shape), s.dtype) for s in specs)
        if key not in self._graphs:
            traced = tf.function(lambda *given: list(self._call(dict(zip(names, given, strict=True)))), autograph=False)
            self._graphs[key] = traced.get_concrete_function(*specs)
        return self._graphs[key]


class _Run(Float64Run):
    """One run of a traced graph, op by op.

    Args:
        noise: Move each result by a random part of at most this.
        seen: Gets each array of numbers or truth values that is computed, in order.
        wide: Whether it computes in float64, or in the types of the graph.
    """

    def __init__(self, noise: float, seen: list[np.ndarray] | None, *, wide: bool = True) -> None:
        super().__init__(noise, seen)
        self.wide = wide
        self._bodies: dict[str, Any] = {}

    def graph(self, graph: Any, given: Sequence[Any]) -> list[Any]:
        """The outputs of a graph for its inputs, captured ones among them."""
        given = [self._widened(value) for value in given] if self.wide else given
        values = {t.ref(): v for t, v in zip(graph.inputs, given, strict=True)}
        reads = _count_reads(graph)
        for op in graph.get_operations():
            if op.type == "Placeholder":
                continue
            results = self._op(op, [values[t.ref()] for t in op.inputs])
            values.update({t.ref(): r for t, r in zip(op.outputs, results, strict=True)})
            for tensor in op.inputs:  # what nobody reads any more need not be held
                reads[tensor.ref()] -= 1
                if not reads[tensor.ref()]:
                    values.pop(tensor.ref(), None)
        return [values[t.ref()] for t in graph.outputs]

    def _op(self, op: Any, inputs: list[Any]) -> list[Any]:
        if op.type in _CALLS:
            return self.graph(self._body(op, "f"), inputs)
        if op.type in ("If", "StatelessIf"):
            branch = "then_branch" if bool(inputs[0]) else "else_branch"
            return self.graph(self._body(op, branch), inputs[1:])
        if op.type in ("While", "StatelessWhile"):
            state = inputs
            while bool(self.graph(self._body(op, "cond"), state)[0]):
                state = self.graph(self._body(op, "body"), state)
            return state
        if op.type in ("Case", "StatelessCase"):
            names = [f.name for f in op.get_attr("branches")]
            index = int(inputs[0])
            chosen = names[index if 0 <= index < len(names) else -1]
            return self.graph(self._function(op.graph, chosen), inputs[1:])
        return [self._settled(r, op.type in _SUMS) for r in self._execute(op, inputs)]

    def _execute(self, op: Any, inputs: list[Any]) -> list[Any]:
        for tensor in (*op.inputs, *op.outputs):
            self._note(tensor.dtype)
        if op.type == "Const":
            return [tf.convert_to_tensor(tf.make_ndarray(op.get_attr("value")))]
        reads_variable = any(t.dtype == tf.resource for t in op.inputs)
        if self.wide and not reads_variable and op.type not in _OF_BITS:
            try:
                return _eager(op, inputs, wide=True)
            except _NO_KERNEL:
                pass
        narrow = [
            tf.cast(v, t.dtype) if v.dtype != t.dtype and t.dtype in _WIDE else v
            for v, t in zip(inputs, op.inputs, strict=True)
        ]
        return _eager(op, narrow, wide=False)

    def _note(self, dtype: tf.DType) -> None:
        if dtype in _NARROW:
            self.note(dtype.as_numpy_dtype)

    def _widened(self, value: Any) -> Any:
        self._note(value.dtype)
        return tf.cast(value, _WIDE[value.dtype]) if value.dtype in _WIDE else value

    def _settled(self, value: Any, is_sum: bool) -> Any:
        """The result in float64, with noise added if that was asked for."""
        value = self._widened(value) if self.wide else value
        if self.seen is not None and (
            value.dtype.is_integer or value.dtype.is_bool or (not self.wide and value.dtype.is_floating)
        ):
            self.seen.append(value.numpy())
        if value.dtype != tf.float64 or not self.wide or not self.settles:
            return value
        array = value.numpy()
        settled = self.settle(array, is_sum=is_sum)
        return value if settled is array else tf.convert_to_tensor(settled)

    def _body(self, op: Any, attribute: str) -> Any:
        return self._function(op.graph, op.get_attr(attribute).name)

    def _function(self, graph: Any, name: str) -> Any:
        if name not in self._bodies:
            holder = graph
            while not holder._is_function(name) and getattr(holder, "outer_graph", None) is not None:
                holder = holder.outer_graph
            definition = holder._get_function(name)
            known = getattr(definition, "graph", None)
            self._bodies[name] = known or function_def_to_graph.function_def_to_graph(
                definition.cached_definition if hasattr(definition, "cached_definition") else definition.definition
            )
        return self._bodies[name]


def _count_reads(graph: Any) -> dict[Any, int]:
    reads: dict[Any, int] = {}
    for tensor in [t for op in graph.get_operations() for t in op.inputs] + list(graph.outputs):
        reads[tensor.ref()] = reads.get(tensor.ref(), 0) + 1
    return reads


def _eager(op: Any, inputs: list[Any], *, wide: bool) -> list[Any]:
    """Run one op of a graph by itself, in float64 or in its own types."""
    attributes: list[Any] = []
    for name in op.node_def.attr:
        if not name.startswith("_"):
            attributes += [name, _attribute(op.get_attr(name), wide)]
    with tf.device("CPU:0"):
        made = execute.execute(op.type.encode(), len(op.outputs), inputs, tuple(attributes), context.context())
    return list(made) if isinstance(made, (list, tuple)) else []


def _attribute(value: Any, wide: bool) -> Any:
    if isinstance(value, tf.DType):
        return (_WIDE.get(value, value) if wide else value).as_datatype_enum
    if isinstance(value, list):
        return [_attribute(v, wide) for v in value]
    return value
