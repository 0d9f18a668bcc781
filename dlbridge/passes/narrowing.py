"""A narrower float type: a model in float16 or bfloat16, in which what needs float32 keeps it.

Kept in float32 are normalisations, softmax, reductions and what PyTorch's autocast keeps; what is computed from
positions and masks before any weight is read (the angles of a rotary embedding); what reads a constant that the narrow
type does not hold; ops that the standard does not have in the narrow type; and the nodes that the user names. A
``Cast`` stands wherever a value passes from one type to the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir

from dlbridge.errors import DlbridgeError, suggest
from dlbridge.ops import extension, traits
from dlbridge.ops.keys import RANDOM_OPS, op_key
from dlbridge.passes import shapes
from dlbridge.passes.matching import origins, subgraphs
from dlbridge.passes.precision import FLOAT32_SLOTS, TYPES, convert_node, convert_tensor
from dlbridge.passes.rewriter import Rewriter, Site

if TYPE_CHECKING:
    from dlbridge.model import Model

Narrow = Literal["float16", "bfloat16"]
NARROW: tuple[Narrow, ...] = ("float16", "bfloat16")

# Ops that stay in float32, because their sums or their range are more than 16 bits hold:
_MEANS = ("LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization", "LpNormalization")
_MORE_MEANS = ("MeanVarianceNormalization", "LRN", "GlobalAveragePool", "GlobalLpPool", "LpPool", "Mean", "Sum")
_SOFTMAXES = ("Softmax", "LogSoftmax", "Hardmax", "LinearAttention")
_REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceProd", "CumSum", "CumProd")
_LOGARITHMS = ("ReduceLogSum", "ReduceLogSumExp", "Exp", "Log", "Pow", "Reciprocal", "Softplus", "Det")
_ANGLES = ("Sinh", "Cosh", "Tan", "Asin", "Acos", "Asinh", "Acosh", "Atanh", "DFT", "STFT", "MelWeightMatrix", "Range")
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "NonMaxSuppression")
_LOSSES = ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
_KEPT = frozenset(
    (*_MEANS, *_MORE_MEANS, *_SOFTMAXES, *_REDUCTIONS, *_LOGARITHMS, *_ANGLES, *_QUANTIZED, *RANDOM_OPS, *_LOSSES)
)
#: Ops whose result goes into a softmax with float32 numbers still: masks and scales of scores.
_BEFORE_SOFTMAX = frozenset({"Add", "Sub", "Mul", "Div", "Where", "Max", "Min", "Clip"})
#: Ops whose results are elements of their operands, or sums, products and minima of them.
_ELEMENTS = ("Cast", "Concat", "Expand", "Gather", "GatherND", "Identity", "Reshape", "ScatterND", "Slice", "Squeeze")
_MORE_ELEMENTS = ("Tile", "Transpose", "Trilu", "Unsqueeze", "Where")
_PASSED_ON = frozenset((*_ELEMENTS, *_MORE_ELEMENTS, "Add", "Clip", "Max", "Min", "Mul", "Neg", "Sub"))


def lower(model: Model, dtype: Narrow, keep: Sequence[str] = ()) -> Model:
    """A clone in a narrower float type (:func:`narrow`); ``model`` is left as it is."""
    copy = model.clone()
    narrow(copy.ir, dtype, keep)
    return copy


def narrow(model: ir.Model, dtype: Narrow, keep: Sequence[str] = ()) -> None:
    """Let a model compute in a narrower float type where that is precise enough, in place. Inputs and outputs stay.

    Args:
        model: The model; types are inferred where they are not known.
        dtype: What float32 becomes.
        keep: Names of nodes, and of blocks of nodes (``layers.0.mlp``), that stay in float32.

    Raises:
        DlbridgeError: When there is no such type or no such node, or nothing could be narrowed.
    """
    if dtype not in NARROW:
        raise DlbridgeError(f"no narrow precision '{dtype}'", hint=f"known: {', '.join(NARROW)}")
    shapes.infer(model)
    _Narrowing(model, dtype, keep).run()
    shapes.infer(model)


class _Narrowing:
    """One run of :func:`narrow`: which nodes are narrowed, and the casts between them and the others."""

    def __init__(self, model: ir.Model, dtype: Narrow, keep: Sequence[str]) -> None:
        self.graph = model.graph
        self.dtype = dtype
        self.target = TYPES[dtype]
        self.info = ml_dtypes.finfo(self.target.numpy())
        self.rewriter = Rewriter(model.graph)
        self.nodes = list(model.graph)
        self.named = _named(self.nodes, keep)
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.fitting: dict[ir.Value, bool] = {}
        self.narrow: set[ir.Node] = set()

    def run(self) -> None:
        weightless = _before_weights(self.nodes)
        softmaxes = _going_into_softmax(self.nodes)
        narrow = [
            node
            for node in self.nodes
            if node not in weightless and node not in softmaxes and not self._stays(node) and _has_float32(node)
        ]
        if not narrow:
            raise DlbridgeError(
                f"nothing in it can be narrowed to {self.dtype}: no node computes in float32 with a weight",
                where=self.graph.name,
            )
        self.narrow = set(narrow)
        wanted = {node: self._wanted_slots(node, node in self.narrow) for node in self.nodes}
        originals = {value for node in self.nodes for value in node.outputs if _is_float32(value)}
        outputs = [value for value in self.graph.outputs if _is_float32(value)]
        readers = {node: list(node.inputs) for node in self.nodes}
        for node in narrow:
            convert_node(Site(node, self.rewriter), self.target)
            if op_key(node) == "Attention":
                Site(node, self.rewriter).set(softmax_precision=int(ir.DataType.FLOAT))
        for node in self.nodes:
            for slot, value in enumerate(readers[node]):
                if value is not None:
                    self._feed(node, slot, value, wanted[node].get(slot, ir.DataType.FLOAT), originals)
            for value in _captured(node):
                self._feed_captured(node, value)
        for value in outputs:
            if value.dtype == self.target:
                self._restore_output(value)
        self._convert_weights()

    # --- what stays ---------------------------------------------------------------------------------------------------

    def _stays(self, node: ir.Node) -> bool:
        """Whether a node stays in float32 for its own sake."""
        if op_key(node) in _KEPT or node in self.named:
            return True
        if any(subgraphs(attribute) for attribute in node.attributes.values()):
            return True
        if any(not isinstance(v.type, (ir.TensorType, type(None))) for v in (*node.inputs, *node.outputs) if v):
            return True
        return not self._has_kernel(node) or not all(self._fits(value) for value in node.inputs if value is not None)

    def _has_kernel(self, node: ir.Node) -> bool:
        """Whether the standard has an op in the narrow type."""
        key = op_key(node)
        if not onnx.defs.has(key, max_inclusive_version=traits.IR_OPSET):
            return key in extension.EXTENSION_OPS
        schema = onnx.defs.get_schema(key, traits.IR_OPSET, "")
        allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
        wanted = f"tensor({self.dtype})"
        for values, formals in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
            for slot, value in enumerate(values):
                if value is None or not _is_float32(value) or slot in FLOAT32_SLOTS.get(key, ()):
                    continue
                formal = formals[min(slot, len(formals) - 1)]
                if wanted not in allowed.get(formal.type_str, {formal.type_str}):
                    return False
        return True

    def _fits(self, value: ir.Value) -> bool:
        """Whether the narrow type has the numbers of an initializer: their size, and that of a number that is alone."""
        tensor = value.const_value
        if tensor is None or not value.is_initializer() or tensor.dtype != ir.DataType.FLOAT:
            return True
        if value not in self.fitting:
            self.fitting[value] = self._holds(tensor, traits.kind(value))
        return self.fitting[value]

    def _holds(self, tensor: ir.TensorProtocol, kind: traits.Kind) -> bool:
        if self.dtype == "bfloat16" and kind != "constant":
            return True  # it has the range of float32
        numbers = np.abs(tensor.numpy())
        finite = numbers[np.isfinite(numbers)]
        if finite.max(initial=0.0) > float(self.info.max):
            return False
        alone = finite.size == 1 or kind == "buffer"  # an epsilon, or the variances of a batch norm
        smallest = finite[finite > 0].min(initial=np.inf)
        return not (alone and smallest < float(self.info.smallest_normal))

    # --- types of inputs ----------------------------------------------------------------------------------------------

    def _wanted_slots(self, node: ir.Node, is_narrow: bool) -> dict[int, ir.DataType]:
        """Slot -> the type that the node wants there, of slots that are float32 now."""
        kept = FLOAT32_SLOTS.get(op_key(node), ())
        return {
            slot: self.target if is_narrow and slot not in kept else ir.DataType.FLOAT
            for slot, value in enumerate(node.inputs)
            if value is not None and _is_float32(value)
        }

    def _feed(self, node: ir.Node, slot: int, value: ir.Value, wanted: ir.DataType, originals: set[ir.Value]) -> None:
        """Give a node a value in the type that it wants."""
        if value.dtype not in (ir.DataType.FLOAT, self.target):
            return
        if value.dtype == self.target and value not in originals:
            return  # a model that has the narrow type somewhere already
        if value.is_initializer():
            return
        if value.dtype != wanted:
            node.replace_input_with(slot, self._cast(value, wanted))

    def _feed_captured(self, node: ir.Node, value: ir.Value) -> None:
        """Give the subgraphs of a node a value that they capture in float32."""
        if value.dtype != self.target or value.is_initializer():
            return
        wide = self._cast(value, ir.DataType.FLOAT)
        for use in list(value.uses()):
            if use.node.graph is not self.graph:
                use.node.replace_input_with(use.idx, wide)

    def _cast(self, value: ir.Value, to: ir.DataType) -> ir.Value:
        if (value, to) not in self.casts:
            self.casts[value, to] = self._made_cast(value, to)
        return self.casts[value, to]

    def _made_cast(self, value: ir.Value, to: ir.DataType) -> ir.Value:
        place = value.producer() or self.nodes[0]
        after = value.producer() is not None
        source = value
        if to == self.target and _may_exceed(value, float(self.info.max)):
            source, place = self._saturated(value, place, after)
        name = "float32" if to == ir.DataType.FLOAT else self.dtype
        named = f"{value.name}_{name}"
        cast = self.rewriter.insert(place, "Cast", name, [source], {"to": int(to)}, after=after, name=named)
        made = cast.outputs[0]
        made.type, made.shape = ir.TensorType(to), value.shape
        return made

    def _saturated(self, value: ir.Value, place: ir.Node, after: bool) -> tuple[ir.Value, ir.Node]:
        """Finite numbers as large as the narrow type has them; infinities stay."""
        largest = float(self.info.max)
        low, high = (
            self.rewriter.constant(f"{self.dtype}_{word}", np.float32(number), ir.DataType.FLOAT, share=True)
            for word, number in (("lowest", -largest), ("largest", largest))
        )
        steps = [("IsInf", "is_infinite", [value]), ("Clip", "clipped", [value, low, high])]
        made: list[ir.Node] = []
        for op_type, what, inputs in steps:
            place = self.rewriter.insert(place, op_type, what, inputs, after=after, name=f"{value.name}_{what}")
            made.append(place)
            after = True
        (infinite,), (clipped,) = (node.outputs for node in made)
        infinite.type, clipped.type = ir.TensorType(ir.DataType.BOOL), ir.TensorType(ir.DataType.FLOAT)
        chosen = self.rewriter.insert(
            place, "Where", "held", [infinite, value, clipped], after=True, name=f"{value.name}_held"
        )
        for each in (infinite, clipped, chosen.outputs[0]):
            each.shape = value.shape
        chosen.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        return chosen.outputs[0], chosen

    # --- outputs and weights ------------------------------------------------------------------------------------------

    def _restore_output(self, value: ir.Value) -> None:
        """Let an output of the graph be float32, under its name."""
        wide = self._cast(value, ir.DataType.FLOAT)
        for slot, output in enumerate(self.graph.outputs):
            if output is value:
                self.graph.outputs[slot] = wide
        value.name, wide.name = self.rewriter.value_name(f"{value.name}_{self.dtype}"), value.name

    def _convert_weights(self) -> None:
        """Convert the initializers that narrow nodes read; one that others read too is there in both types."""
        for value in list(self.graph.initializers.values()):
            if value.const_value is None or not _is_float32(value):
                continue
            uses = list(value.uses())
            narrow = [use for use in uses if self._is_narrow_use(use.node, use.idx)]
            if not narrow:
                continue
            tensor = convert_tensor(value.const_value, self.target)
            if len(narrow) == len(uses) and not value.is_graph_output() and not value.is_graph_input():
                value.const_value, value.type = tensor, ir.TensorType(self.target)
                continue
            copy = self.rewriter.add_initializer(
                self.rewriter.value_name(f"{value.name}.{self.dtype}"), tensor, traits.kind(value)
            )
            for use in narrow:
                use.node.replace_input_with(use.idx, copy)

    def _is_narrow_use(self, node: ir.Node, slot: int) -> bool:
        return node in self.narrow and slot not in FLOAT32_SLOTS.get(op_key(node), ())


# --- which nodes ------------------------------------------------------------------------------------------------------


def _is_float32(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT


def _has_float32(node: ir.Node) -> bool:
    return any(_is_float32(value) for value in (*node.inputs, *node.outputs) if value is not None)


def _named(nodes: Iterable[ir.Node], keep: Sequence[str]) -> set[ir.Node]:
    """The nodes that have one of these names, or stand in a block of one."""
    found: set[ir.Node] = set()
    known: list[ir.Node] = list(nodes)
    for name in keep:
        here = [node for node in known if node.name == name or (node.name or "").startswith(f"{name}.")]
        if not here:
            paths = {node.name or "" for node in known}
            paths |= {path.rpartition(".")[0] for path in paths}
            raise DlbridgeError(f"no node or block '{name}' to keep in float32", hint=suggest(name, sorted(paths)))
        found.update(here)
    return found


def _before_weights(nodes: Iterable[ir.Node]) -> set[ir.Node]:
    """The nodes whose results do not depend on a trained weight: positions, masks, the preparation of inputs."""
    found: set[ir.Node] = set()
    for node in nodes:
        operands = [value for value in node.inputs if value is not None] + _captured(node)
        if all(_is_weightless(value, found) for value in operands):
            found.add(node)
    return found


def _is_weightless(value: ir.Value, found: Collection[ir.Node]) -> bool:
    if value.is_initializer():
        return traits.kind(value) in ("constant", "buffer")
    return value.producer() is None or value.producer() in found


def _captured(node: ir.Node) -> list[ir.Value]:
    """The values that the subgraphs of a node capture from the graph around it."""
    inner = [graph for attribute in node.attributes.values() for graph in subgraphs(attribute)]
    return [
        value
        for graph in inner
        for each in graph.all_nodes()
        for value in each.inputs
        if value is not None and _home(value) is node.graph
    ]


def _home(value: ir.Value) -> ir.Graph | ir.Function | None:
    """The graph that a value belongs to."""
    maker = value.producer()
    return value.graph if maker is None else maker.graph


def _going_into_softmax(nodes: Sequence[ir.Node]) -> set[ir.Node]:
    """The arithmetic whose result nothing but a softmax reads: masks are added, and scales applied, in float32."""
    found: set[ir.Node] = set()
    for node in reversed(nodes):
        readers = [use.node for use in node.outputs[0].uses()] if len(node.outputs) == 1 else []
        goes = bool(readers) and all(r in found or op_key(r) in ("Softmax", "LogSoftmax") for r in readers)
        if goes and op_key(node) in _BEFORE_SOFTMAX and not node.outputs[0].is_graph_output():
            found.add(node)
    return found


def _may_exceed(value: ir.Value, largest: float) -> bool:
    """Whether a value may have finite numbers above this because a constant that it is made of has: a mask."""
    for each in origins(value, lambda node: op_key(node) in _PASSED_ON):
        is_constant = each.is_initializer() or each.producer() is not None
        tensor = ir.convenience.get_const_tensor(each) if is_constant else None
        if tensor is None or not tensor.dtype.is_floating_point():
            continue
        numbers = np.abs(tensor.numpy().astype(np.float64))
        if numbers[np.isfinite(numbers)].max(initial=0.0) > largest:
            return True
    return False
