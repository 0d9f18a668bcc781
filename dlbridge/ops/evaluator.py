"""Runs an ONNX graph by the standard's reference evaluator, with every float in float64.

This is the meaning of a graph without a framework and without code that dlbridge writes: verification judges with it
where there is no original, an ONNX file is judged by it, and it tells what each value of a graph ought to be.
"""

from __future__ import annotations

import mmap
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_cast import cast_to
from onnx.reference.ops.op_one_hot import OneHot as _OneHot
from onnx.reference.ops.op_string_normalizer import StringNormalizer as _StringNormalizer

from dlbridge.ops.ceil_pools import AveragePool, MaxPool

#: Float types that are widened to float64.
NARROW = tuple(np.dtype(t) for t in ("float32", "float16", ml_dtypes.bfloat16))
#: Element types that ``Cast`` makes float64 of.
_WIDENED_CASTS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
#: From how many bytes of weights on they are not all held in float64.
LARGE = 2**26
#: Ops that sum products, by the names of the evaluator's classes without their versions.
_SUMS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"})
#: Ops that subtract the mean of their operand, and divide by what is left.
_CENTRING = frozenset({"LayerNormalization", "InstanceNormalization"})


def eps(dtype: Any) -> float:
    """The distance from 1 to the next number of a float type."""
    return float(ml_dtypes.finfo(dtype).eps)


def widen(array: Any) -> Any:
    """Floats narrower than float64 as float64; all else as it is."""
    return array.astype(np.float64) if isinstance(array, np.ndarray) and array.dtype in NARROW else array


class Float64Run:
    """One run of a model in float64, operation by operation; a framework's adds how its operations are run.

    Args:
        noise: Move each result by a random part of at most this.
        seen: Gets every float array that is computed, in order.

    Attributes:
        eps: That of the coarsest float type that the model has computed in.
    """

    def __init__(self, noise: float = 0.0, seen: list[np.ndarray] | None = None) -> None:
        self.noise, self.seen = noise, seen
        self.eps = 0.0
        self.generator = np.random.default_rng(0)

    def note(self, dtype: Any) -> None:
        """The model computes in this type."""
        if dtype in NARROW:
            self.eps = max(self.eps, eps(dtype))

    @property
    def settles(self) -> bool:
        """Whether ``settle`` does anything with a result."""
        return bool(self.noise) or self.seen is not None

    def settle(self, array: np.ndarray, *, is_sum: bool) -> np.ndarray:
        """A result, moved by noise if that was asked for, and kept in ``seen``."""
        if self.noise:
            array = perturb(array, self.noise, self.generator, is_sum=is_sum)
        if self.seen is not None:
            self.seen.append(array)
        return array


#: Multiples of one by this are exact in every float type, unless they are large.
_EXACT_PARTS = 8.0


def perturb(array: np.ndarray, size: float, generator: np.random.Generator, *, is_sum: bool = False) -> np.ndarray:
    """Float64 numbers, each moved by a random part of at most ``size``, as rounding would.

    Integers (positions, masks, counts), halves, quarters and eighths are exact in every float type, so they stay: a tie
    between two integers is one in each of them. So does what is not finite.

    Args:
        array: The numbers.
        size: The largest part.
        generator: Where random numbers come from.
        is_sum: Whether they are sums of products (``MatMul``, ``Conv``): a sum that is nearly 0 is rounded as its terms
            are, whose size its row tells.
    """
    if array.dtype != np.float64:
        return array
    moves = np.isfinite(array) & (_EXACT_PARTS * array != np.rint(_EXACT_PARTS * array))
    scale = np.abs(array)
    if is_sum and array.ndim and array.size:
        finite = np.where(np.isfinite(array), array, 0.0)
        scale = np.maximum(scale, np.sqrt(np.mean(finite**2, axis=-1, keepdims=True)))
    return np.where(moves, array + scale * size * generator.uniform(-1.0, 1.0, array.shape), array)


def rounded_within(array: np.ndarray, size: float, generator: np.random.Generator) -> np.ndarray:
    """The operand of an op that subtracts its mean, each number moved by a random part of at most ``size``.

    The op rounds that mean, to a part of its size, however exact the numbers are: what is left of
    equal ones is rounding.
    """
    return array * (1.0 + size * generator.uniform(-1.0, 1.0, array.shape)) if array.dtype == np.float64 else array


class Cast(OpRun):
    """``Cast`` to a narrower float gives float64."""

    op_domain = ""

    def _run(self, x, to=None, saturate=None, round_mode=None):  # type: ignore[no-untyped-def]
        if to in _WIDENED_CASTS:
            return (np.asarray(x).astype(np.float64),)
        return (cast_to(x, to, saturate != 0, round_mode or "up"),)


class OneHot(_OneHot):
    """``OneHot`` whose depth may be a tensor of one number, as the standard has it: NumPy counts to none of these."""

    op_domain = ""

    def _run(self, indices, depth, values, axis=None):  # type: ignore[no-untyped-def]
        return super()._run(indices, np.reshape(depth, ()), values, axis=axis)


class LogSoftmax(OpRun):
    """``LogSoftmax`` by differences: the logarithm of a softmax is -inf where that is too small for a number."""

    op_domain = ""

    def _run(self, x, axis=None):  # type: ignore[no-untyped-def]
        axis = -1 if axis is None else axis
        below = x - x.max(axis=axis, keepdims=True)
        return (below - np.log(np.exp(below).sum(axis=axis, keepdims=True)),)


class StringNormalizer(_StringNormalizer):
    """``StringNormalizer`` in the locale C, whose letters are those of ASCII; accents, and empty strings, stay."""

    op_domain = ""

    def _run(self, x, case_change_action=None, is_case_sensitive=None, locale=None, stopwords=None):  # type: ignore[no-untyped-def]
        if locale != "C" or stopwords:
            return super()._run(x, case_change_action, is_case_sensitive, locale, stopwords)
        lower, upper = string.ascii_lowercase, string.ascii_uppercase
        tables = {"LOWER": str.maketrans(upper, lower), "UPPER": str.maketrans(lower, upper)}
        found = np.empty(x.shape, object)
        found.reshape(-1)[:] = [str(one).translate(tables.get(case_change_action, {})) for one in x.reshape(-1)]
        return (found,)


#: Ops that the evaluator's own classes get wrong.
_MENDED = [LogSoftmax, OneHot, MaxPool, AveragePool, StringNormalizer]


class _Float64(ReferenceEvaluator):
    """The reference evaluator in which each result is widened before it is read."""

    state: Float64Run

    def __init__(self, *arguments: Any, new_ops: Any = None, **options: Any) -> None:
        super().__init__(*arguments, new_ops=[*(new_ops or []), Cast, *_MENDED], **options)
        for node in self.rt_nodes_:
            node.run = self._settled(node.run, type(node).__name__.partition("_")[0])

    def _settled(self, run: Callable[..., Any], op: str) -> Callable[..., Any]:
        is_sum, centres = op in _SUMS, op in _CENTRING

        def settled(*arguments: Any, **options: Any) -> Any:
            if centres and self.state.noise:
                moved = rounded_within(widen(arguments[0]), self.state.noise, self.state.generator)
                arguments = (moved, *arguments[1:])
            return tuple(self._settle(r, is_sum) for r in run(*arguments, **options))

        return settled

    def _settle(self, result: Any, is_sum: bool) -> Any:
        """A result as those that read it get it."""
        result = widen(result)
        return self.state.settle(result, is_sum=is_sum) if isinstance(result, np.ndarray) else result


class Evaluator:
    """A graph in float64: arrays by input name -> arrays by output name.

    Args:
        model: The graph, of any opset. It is not changed. Its weights are held as float64; those of a large model are
            made so for the nodes that read them, from the first to the last one: all at once are twice the model.

    Attributes:
        eps: That of the coarsest float type in the graph.
    """

    def __init__(self, model: ir.Model) -> None:
        proto, self._weights, self._mapped = _without_weights(model)
        self._types = {name: array.dtype for name, array in self._weights.items()}
        if sum(array.nbytes for array in self._weights.values()) < LARGE:
            self._weights = _widened(self._weights)
        _name_overloads(proto)
        self._state = Float64Run()
        # the graphs within are run by the class of the graph around them
        bound = type("_Bound", (_Float64,), {"state": self._state})
        self._evaluator = bound(proto)
        self._proto = proto
        self.outputs = [v.name for v in proto.graph.output]
        self._reads = _reads(proto.graph)
        self._done_with = _last_reads(proto.graph)
        self.eps = max((eps(d) for d in _float_types(model)), default=eps(np.float32))

    def __call__(
        self, arrays: Mapping[str, np.ndarray], *, noise: float = 0.0, seen: list[np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph.

        Args:
            arrays: Input name -> array.
            noise: Move each result by a random part of at most this.
            seen: Gets every array that is computed on the way, in order.
        """
        with self._running(noise, seen):
            results = self._outputs(arrays)
        return {name: results[name] for name in self.outputs}

    def in_own_types(self, arrays: Mapping[str, np.ndarray], seen: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Run the graph in its own types; ``seen`` gets each array of numbers or truth values on the way."""
        weights = {name: array.astype(self._types[name], copy=False) for name, array in self._weights.items()}
        evaluator = ReferenceEvaluator(self._proto, new_ops=_MENDED)
        with np.errstate(all="ignore"):
            found = evaluator.run(None, {**weights, **arrays}, intermediate=True)
        made = {name: array for name, array in found.items() if isinstance(array, np.ndarray)}
        seen += [array for name, array in made.items() if name not in weights and array.dtype.kind not in "bSOU"]
        return {name: made[name] for name in self.outputs}

    def values(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All arrays of the main graph by name, for these inputs."""
        with self._running(0.0, None):
            found = self._evaluator.run(None, _widened({**self._weights, **arrays}), intermediate=True)
        return {name: array for name, array in found.items() if isinstance(array, np.ndarray)}

    def _outputs(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The outputs by name. The evaluator's own ``run`` holds every array until its end, which is many times the
        model; here each goes after its last use."""
        results: dict[str, Any] = {"": None, **self._evaluator.rt_inits_, **_widened(arrays)}
        for node, reads, done in zip(self._evaluator.rt_nodes_, self._reads, self._done_with, strict=True):
            self._take_weights(reads, results)
            given = [results[name] for name in node.input]
            around = {"context": results} if node.need_context() else {}
            made = zip(node.output, node.run(*given, **around), strict=False)
            results.update((name, value) for name, value in made if name)
            for name in done:
                results.pop(name, None)
                self._return_pages(name)
        self._take_weights(self.outputs, results)
        return results

    def _take_weights(self, names: Iterable[str], results: dict[str, Any]) -> None:
        """Put the weights among these names into the results, in float64, where they are not there yet."""
        for name in names:
            if name in self._weights and name not in results:
                results[name] = widen(self._weights[name])

    def _return_pages(self, name: str) -> None:
        """Give the memory of a weight that lies in a file back to the system, which reads it again where it must."""
        tensor = self._mapped.get(name)
        if tensor is not None and tensor.raw is not None and hasattr(mmap, "MADV_DONTNEED"):
            tensor.raw.madvise(mmap.MADV_DONTNEED)

    @contextmanager
    def _running(self, noise: float, seen: list[np.ndarray] | None) -> Iterator[None]:
        self._state.noise, self._state.seen = noise, seen
        self._state.generator = np.random.default_rng(0)
        try:
            with np.errstate(all="ignore"):
                yield
        finally:
            self._state.seen = None


def _widened(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: widen(np.asarray(array)) for name, array in arrays.items()}


def _reads(graph: onnx.GraphProto) -> list[set[str]]:
    """For each node, the names that it reads, and the graphs within it."""
    return [{name for one in _all_nodes([node]) for name in _named(one)} for node in graph.node]


def _named(node: onnx.NodeProto) -> list[str]:
    """The names of a node's inputs, and of the outputs of its graphs."""
    returned = [value.name for attribute in node.attribute for graph in _graphs(attribute) for value in graph.output]
    return [*node.input, *returned]


def _last_reads(graph: onnx.GraphProto) -> list[list[str]]:
    """For each node, the names that neither a node after it reads, nor a graph within one, nor the graph returns."""
    needed = {"", *(value.name for value in graph.output)}
    found: list[list[str]] = []
    for node, names in zip(reversed(graph.node), reversed(_reads(graph)), strict=True):
        found.append(sorted((names | set(node.output)) - needed))
        needed |= names
    return found[::-1]


def _without_weights(
    model: ir.Model,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray], dict[str, ir.ExternalTensor]]:
    """The graph as a proto whose initializers are inputs, their arrays, and those that lie in files."""
    copy = model.clone()
    graph, weights, mapped = copy.graph, {}, {}
    for name, value in list(graph.initializers.items()):
        if value.const_value is None:
            continue
        weights[name] = _array(value.const_value)
        if isinstance(value.const_value, ir.ExternalTensor):
            mapped[name] = value.const_value
        del graph.initializers[name]
        if value not in graph.inputs:
            graph.inputs.append(value)
        value.const_value = None
    return ir.to_proto(copy), weights, mapped


def _array(tensor: ir.TensorProtocol) -> np.ndarray:
    """The numbers of a tensor; strings as text, which is what onnxruntime gives."""
    if tensor.dtype == ir.DataType.STRING:
        return onnx.numpy_helper.to_array(ir.to_proto(tensor))
    return tensor.numpy()


def _name_overloads(proto: onnx.ModelProto) -> None:
    """Give each overload of a function a name of its own: the evaluator knows functions by domain and name alone."""
    for function in proto.functions:
        function.name += f":{function.overload}" if function.overload else ""
    for nodes in (proto.graph.node, *(f.node for f in proto.functions)):
        for node in _all_nodes(nodes):
            node.op_type += f":{node.overload}" if node.overload else ""


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in _graphs(attribute):
                yield from _all_nodes(graph.node)


def _graphs(attribute: onnx.AttributeProto) -> Iterable[onnx.GraphProto]:
    return (attribute.g, *attribute.graphs)


def _float_types(model: ir.Model) -> set[np.dtype]:
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [v for node in model.graph.all_nodes() for v in node.outputs]
    found = {v.dtype.numpy() for v in values if v.dtype is not None and v.dtype.is_floating_point()}
    return {d for d in found if d in NARROW or d == np.float64}
