"""Mixed precision: products of matrices and convolutions are computed in a half type, all else stays in float32."""

from __future__ import annotations

from typing import Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.keys import is_op
from dlbridge.passes.rewriter import Rewriter, Site

Half = Literal["float16", "bfloat16"]

_TYPES: dict[str, ir.DataType] = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}
#: Ops that most of the time goes into: sums of products, which hardware computes in a half type with float32 sums.
_HALVED = ("Linear", "MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "Attention")
#: Ops that only move or choose numbers: of halves they give the same halves, so nothing is cast around them.
_MOVING = (
    *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Split", "Slice", "Gather", "Expand"),
    *("Identity", "Relu", "MaxPool", "GlobalMaxPool", "DepthToSpace", "SpaceToDepth"),
)
#: The slot of Attention's mask, which may hold numbers that a half type does not have.
_MASK = 3


def mix_precision(model: ir.Model, half: Half) -> int:
    """Compute sums of products in a half type, in place; weights, normalization, softmax and outputs stay float32.

    Weights are cast where they are read, so what trains is the float32 weight and has a float32 gradient. Recurrent
    layers and the graphs within nodes stay as they are.

    Args:
        model: A model whose types are known.
        half: The half type.

    Returns:
        How many ops compute in the half type, without those that only move numbers.
    """
    return _Mixing(model.graph, _TYPES[half]).run()


class _Mixing:
    def __init__(self, graph: ir.Graph, half: ir.DataType) -> None:
        self._graph, self._half = graph, half
        self._rewriter = Rewriter(graph)
        #: float32 value -> the same in the half type.
        self._halves: dict[ir.Value, ir.Value] = {}
        #: The casts of results back to float32, some of which nothing may need.
        self._casts: list[ir.Node] = []

    def run(self) -> int:
        count = 0
        for node in list(self._graph):
            site = Site(node, self._rewriter)
            if is_op(node, *_HALVED) and self._is_halved(site):
                self._halve(site)
                count += 1
            elif is_op(node, *_MOVING) and self._follows(site):
                self._halve(site)
        self._rewriter.erase_unused(self._casts)
        return count

    def _is_halved(self, site: Site) -> bool:
        """Whether an op can compute in the half type: all floats that it reads, and its result, are float32 and fit."""
        if not _is_float32(site.node.outputs[0]) or any(site.is_read(index) for index in range(1, 4)):
            return False
        for value in site.operands:
            if _is_float(value) and not (_is_float32(value) and self._holds(value)):
                return False
        if self._half == ir.DataType.BFLOAT16 or not is_op(site.node, "Attention"):
            return True
        mask = site.input(_MASK)  # its numbers may be beyond float16
        return mask is None or not _is_float(mask)

    def _holds(self, value: ir.Value) -> bool:
        """Whether the half type has numbers as large as those of a constant."""
        tensor = value.const_value
        if tensor is None or traits.is_trained(value):
            return True
        array = tensor.numpy()
        largest = np.abs(array[np.isfinite(array)]).max(initial=0.0)
        return bool(largest <= float(ml_dtypes.finfo(self._half.numpy()).max))

    def _follows(self, site: Site) -> bool:
        """Whether all numbers that an op moves are halves already."""
        floats = [value for value in site.operands if _is_float(value)]
        return bool(floats) and all(value.producer() in self._casts for value in floats)

    def _halve(self, site: Site) -> None:
        for slot, value in enumerate(site.node.inputs):
            if value is not None and _is_float(value):
                site.set_input(slot, self._half_of(site, value, slot))
        if is_op(site.node, "Attention"):
            site.set(softmax_precision=int(ir.DataType.FLOAT))
        for output in site.node.outputs:
            self._cast_back(site.node, output)

    def _half_of(self, site: Site, value: ir.Value, slot: int) -> ir.Value:
        if value not in self._halves:
            made = site.op("Cast", f"half_{slot}", [value], to=int(self._half))
            made.type, made.shape = ir.TensorType(self._half), value.shape
            self._halves[value] = made
        return self._halves[value]

    def _cast_back(self, node: ir.Node, output: ir.Value) -> None:
        """Let a cast to float32 take the place and the name of a result."""
        cast = self._rewriter.insert(node, "Cast", "float32", [None], {"to": int(ir.DataType.FLOAT)}, after=True)
        wide = cast.outputs[0]
        self._rewriter.substitute(output, wide)
        cast.replace_input_with(0, output)
        output.type = ir.TensorType(self._half)
        self._halves[wide] = output
        self._casts.append(cast)


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def _is_float32(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT
