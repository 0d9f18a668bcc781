"""Quantizes a written ONNX model with onnxruntime's own tools: int8 at run time, int8 calibrated, int4 weights.

| ``how`` | weights | what is computed | made by |
|---|---|---|---|
| ``int8`` | int8 | in int8; the ranges of activations are found at run time | ``quantize_dynamic`` |
| ``int8-static`` | int8 by channel | in int8; the ranges come from calibration data (QDQ) | ``quantize_static`` |
| ``int4`` | int4 in blocks of 32 | in float; weights are widened where they are used | ``MatMulNBits`` |
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from dlbridge.errors import DlbridgeError, suggest
from dlbridge.frameworks.onnx import serialize
from dlbridge.frameworks.onnx.source import OnnxSource
from dlbridge.ops.keys import op_key
from dlbridge.passes.matching import Match, match, stored
from dlbridge.passes.rewriter import Rewriter

#: onnxruntime's own domain.
_CONTRIB = "com.microsoft"
#: Numbers of a column that share a scale in int4.
BLOCK = 32
#: Ops with weights that ``quantize_dynamic`` has in int8; its "Attention" is not the standard's.
_DYNAMIC = ("Conv", "MatMul", "Gemm", "Gather", "LSTM")
#: Ops with weights that ``quantize_static`` has in int8, and those between convolutions that pass int8 on.
_STATIC = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_BETWEEN = ("Relu", "Clip", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Reshape", "Flatten")

Arrays = Mapping[str, np.ndarray]


def quantize(source: OnnxSource, how: str, data: Sequence[Arrays] = (), keep: Sequence[str] = ()) -> OnnxSource:
    """The model with its weights, or its weights and activations, as small integers. ``source`` stays as it is.

    Args:
        source: A written model in float.
        how: ``"int8"``, ``"int8-static"`` or ``"int4"``.
        data: Sets of inputs from which the ranges of activations are taken; ``int8-static`` needs them.
        keep: Names of nodes, and of blocks of nodes (``layers.0.mlp``), that stay as they are.

    Raises:
        DlbridgeError: When nothing in the model can be quantized, there is no such node, or there are no data.
    """
    kept = _kept(source, keep)
    if how == "int4":
        return _in_blocks(source, kept)
    if how == "int8-static" and not data:
        raise DlbridgeError("int8-static needs data to calibrate with", hint="give some: --calibrate FILE")
    if serialize.weights_size(source.ir) > serialize.LARGEST_FILE:
        raise DlbridgeError(
            f"onnxruntime's tool for {how} takes models of up to 2 GiB of weights", hint="int4 takes larger ones"
        )
    with tempfile.TemporaryDirectory(prefix="dlbridge-") as folder, _own_logging():
        written = Path(folder) / "model.onnx"
        serialize.save(source.ir, written)
        made = _dynamic(written, kept) if how == "int8" else _static(written, kept, data)
        model = ir.from_proto(onnx.load(made))
    _check_any(model, source, how)
    return _as_source(source, model)


def _as_source(source: OnnxSource, model: ir.Model) -> OnnxSource:
    made = dataclasses.replace(source, ir=model)
    made.check()
    return made


def _kept(source: OnnxSource, keep: Sequence[str]) -> list[str]:
    """The names of the nodes of the written graph that come from these nodes and blocks of the model."""
    names = [node.name or "" for node in source.model.graph.all_nodes()]
    around = {name: {name, *_blocks(name)} for name in names}
    known = set().union(*around.values())
    for name in keep:
        if name not in known:
            raise DlbridgeError(f"no node or block '{name}' to keep", hint=suggest(name, sorted(known)))
    own = {name for name, places in around.items() if not places.isdisjoint(keep)}
    written = [node.name or "" for node in source.ir.graph.all_nodes()]
    return [name for name in written if _maker(name, set(names)) in own]


def _blocks(name: str) -> list[str]:
    """The blocks that a node stands in: ``a`` and ``a.b`` of ``a.b.conv``."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _maker(name: str, names: set[str]) -> str:
    """The node of the model that a node of the written graph was made for: what its name begins with."""
    while name and name not in names:
        name = name.rpartition("_")[0]
    return name


@contextlib.contextmanager
def _own_logging() -> Iterator[None]:
    """Keep the root logger as it is: onnxruntime's tools set it up when they are imported."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)


# --- int8 -------------------------------------------------------------------------------------------------------------


def _dynamic(path: Path, kept: list[str]) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    made = path.with_name("quantized.onnx")
    # kernels of convolutions take unsigned weights alone, those of matrices both
    has_convolutions = "Conv" in _ops(path)
    quantize_dynamic(
        path,
        made,
        op_types_to_quantize=list(_DYNAMIC),
        per_channel=not has_convolutions,
        weight_type=QuantType.QUInt8 if has_convolutions else QuantType.QInt8,
        nodes_to_exclude=[*kept, *(f"{name}_MatMul" for name in kept)],  # which the tool makes of a Gemm
    )
    return made


def _static(path: Path, kept: list[str], data: Sequence[Arrays]) -> Path:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, made = path.with_name("prepared.onnx"), path.with_name("quantized.onnx")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    has_convolutions = "Conv" in _ops(prepared)
    quantize_static(
        prepared,
        made,
        _Reader(data),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*_STATIC, *(_BETWEEN if has_convolutions else ())],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=kept,
        extra_options={"MatMulConstBOnly": True},
    )
    return made


def _ops(path: Path) -> set[str]:
    return {op_key(node) for node in onnx.load(path, load_external_data=False).graph.node}


class _Reader:
    """Hands out sets of inputs, as onnxruntime's calibration asks for them."""

    def __init__(self, data: Sequence[Arrays]) -> None:
        self._rest = iter(data)

    def get_next(self) -> dict[str, np.ndarray] | None:
        arrays = next(self._rest, None)
        return None if arrays is None else dict(arrays)


def _check_any(model: ir.Model, source: OnnxSource, how: str) -> None:
    small = (ir.DataType.INT8, ir.DataType.UINT8)
    had = {name for name, value in source.ir.graph.initializers.items() if value.dtype in small}
    if not any(v.dtype in small and name not in had for name, v in model.graph.initializers.items()):
        raise DlbridgeError(f"nothing in it can be quantized to {how}: no weight that onnxruntime has in int8")


# --- int4 -------------------------------------------------------------------------------------------------------------


def _in_blocks(source: OnnxSource, kept: Sequence[str]) -> OnnxSource:
    """Products with a weight by ``MatMulNBits``. A weight is quantized when it is written, one at a time."""
    model = source.ir.clone()
    rewriter, blocks, names = Rewriter(model.graph), _Blocks(), set(kept)
    done: dict[ir.Value, tuple[ir.Value, ...]] = {}
    for node in list(model.graph):
        product = match(node, "MatMul", "Gemm")
        if product is not None and node.name not in names and _takes_blocks(product):
            _put_blocks(product, rewriter, blocks, done)
    if not done:
        raise DlbridgeError("nothing in it can be quantized to int4: no product of matrices with a weight")
    model.graph.opset_imports[_CONTRIB] = 1
    for weight in done:
        if not weight.uses() and not weight.is_graph_output():
            del model.graph.initializers[str(weight.name)]
    return _as_source(source, model)


def _takes_blocks(product: Match) -> bool:
    tensor = stored(product.operand(1))
    if tensor is None or len(tensor.shape) != 2 or min(tensor.shape.numpy()) == 0:
        return False
    if tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return False
    if product.is_op("MatMul"):
        return True
    return product.integer("transA") == 0 and product.number("alpha") == 1.0 and product.number("beta") == 1.0


def _put_blocks(
    product: Match, rewriter: Rewriter, blocks: _Blocks, done: dict[ir.Value, tuple[ir.Value, ...]]
) -> None:
    weight = product.operand(1)
    tensor = stored(weight)
    assert tensor is not None
    turned = product.is_op("Gemm") and product.integer("transB") == 1
    sizes = [int(size) for size in tensor.shape.numpy()]
    rows, columns = reversed(sizes) if turned else sizes
    if weight not in done:
        done[weight] = blocks.of(weight.name or "weight", tensor, rows, columns, turned, rewriter)
    attributes = {"K": rows, "N": columns, "bits": 4, "block_size": BLOCK}
    inputs = [product.operand(0), *done[weight]]
    bias = product.input(2)
    if bias is None:
        rewriter.replace(product.node, "MatMulNBits", inputs, attributes, domain=_CONTRIB)
        return
    made = rewriter.insert(product.node, "MatMulNBits", "product", inputs, attributes, domain=_CONTRIB)
    made.outputs[0].type = product.output.type
    made.outputs[0].shape = product.output.shape
    rewriter.replace(product.node, "Add", [made.outputs[0], bias])


class _Blocks:
    """Quantizes weights when they are read; the last one is kept, because its three parts are read in turn."""

    def __init__(self) -> None:
        self._last: tuple[Any, tuple[np.ndarray, ...]] | None = None

    def of(
        self, name: str, tensor: ir.TensorProtocol, rows: int, columns: int, turned: bool, rewriter: Rewriter
    ) -> tuple[ir.Value, ...]:
        """New initializers: the numbers, two in a byte, and the scale and the zero of each block."""
        count = -(-rows // BLOCK)
        parts: list[tuple[str, ir.DataType, list[int]]] = [
            ("int4", ir.DataType.UINT8, [columns, count, BLOCK // 2]),
            ("scales", tensor.dtype, [columns, count]),
            ("zeros", ir.DataType.UINT8, [columns, -(-count // 2)]),
        ]
        made = []
        for index, (word, dtype, shape) in enumerate(parts):
            read = functools.partial(self._part, tensor, turned, index, dtype, shape)
            wanted = rewriter.value_name(f"{name}.{word}")
            lazy = ir.LazyTensor(read, dtype=dtype, shape=ir.Shape(shape), name=wanted)
            made.append(rewriter.add_initializer(wanted, lazy, "constant"))
        return tuple(made)

    def _part(
        self, tensor: ir.TensorProtocol, turned: bool, index: int, dtype: ir.DataType, shape: list[int]
    ) -> ir.Tensor:
        if self._last is None or self._last[0] is not tensor:
            self._last = (tensor, _quantized(tensor.numpy().T if turned else tensor.numpy()))
        return ir.Tensor(self._last[1][index].reshape(shape), dtype=dtype)


def _quantized(weight: np.ndarray) -> tuple[np.ndarray, ...]:
    """(packed, scales, zeros) of a matrix (in, out), by onnxruntime's quantizer."""
    with _own_logging():
        from onnxruntime.quantization.matmul_nbits_quantizer import (
            DefaultWeightOnlyQuantConfig,
            DefaultWeightOnlyQuantizer,
        )

        quantizer = DefaultWeightOnlyQuantizer(DefaultWeightOnlyQuantConfig(block_size=BLOCK, bits=4))
        found: tuple[np.ndarray, ...] = quantizer.qbits_block_quant(np.ascontiguousarray(weight))
    return found
