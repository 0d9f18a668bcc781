"""onnxruntime's quantised ops: 8-bit ones compute on the numbers that their inputs stand for and quantise the result,
matrices of few bits are those of the numbers that they stand for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from dlbridge.passes.foreign.microsoft import channels_first
from dlbridge.passes.foreign.site import CannotReadError, Foreign, Results, rule

# --- 8 bits -----------------------------------------------------------------------------------------------------------


def _real(site: Foreign, slot: int, what: str, **attributes: int) -> ir.Value:
    """Dequantise an input, whose scale and zero point are the next two inputs."""
    inputs = [site.operand(slot), site.operand(slot + 1), site.input(slot + 2)]
    return site.op("DequantizeLinear", what, inputs, **attributes)


def _quantised(site: Foreign, y: ir.Value, slot: int) -> ir.Value:
    """Quantise a result with the scale and the zero point that two neighbouring inputs give."""
    zero = site.input(slot + 1)
    zero = zero if zero is not None else site.constant("zero_point", 0, site.dtype())
    return site.op("QuantizeLinear", "quantised", [y, site.operand(slot), zero])


@rule("QLinearAdd", "QLinearMul")
def _binary(site: Foreign) -> Results:
    kind = site.kind.removeprefix("QLinear")
    return _quantised(site, site.op(kind, kind.lower(), [_real(site, 0, "a"), _real(site, 3, "b")]), 6)


@rule("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax")
def _unary(site: Foreign) -> Results:
    kind = site.kind.removeprefix("QLinear")
    attributes = site.attributes(without=["opset"])
    if kind == "LeakyRelu" and "alpha" not in attributes:
        attributes["alpha"] = ir.AttrFloat32("alpha", 0.01)
    if kind == "Softmax" and site.get("opset") < 13:
        axis = site.get("axis", 1) % site.known_rank()
        site.needs(axis == site.known_rank() - 1, "it takes several axes together")
    return _quantised(site, site.op(kind, kind.lower(), [_real(site, 0, "x")], **attributes), 3)


@rule("QLinearAveragePool", "QLinearGlobalAveragePool")
def _pool(site: Foreign) -> Results:
    kind = site.kind.removeprefix("QLinear")
    attributes = site.attributes(without=["channels_last"])
    real = _real(site, 0, "x")
    if site.get("channels_last", 0):
        axes = site.known_rank()
        first = site.turned(real, "channels_first", 0, axes - 1, *range(1, axes - 1))
        pooled = site.turned(site.op(kind, "pool", [first], **attributes), "channels_last", 0, *range(2, axes), 1)
    else:
        pooled = site.op(kind, "pool", [real], **attributes)
    return _quantised(site, pooled, 3)


@rule("QLinearReduceMean")
def _mean(site: Foreign) -> Results:
    axes = site.constant("axes", list(site.get("axes")))
    return _quantised(
        site, site.op("ReduceMean", "mean", [_real(site, 0, "x"), axes], keepdims=site.get("keepdims")), 3
    )


@rule("QLinearConcat")
def _concat(site: Foreign) -> Results:
    parts = [_real(site, slot, f"part{slot // 3}") for slot in range(2, len(site.node.inputs), 3)]
    zero = site.input(1) or site.constant("zero_point", 0, site.dtype(2))
    joined = site.op("Concat", "joined", parts, axis=site.get("axis"))
    return site.op("QuantizeLinear", "quantised", [joined, site.x, zero])


@rule("QLinearWhere")
def _where(site: Foreign) -> Results:
    chosen = site.op("Where", "chosen", [site.x, _real(site, 1, "x"), _real(site, 4, "y")])
    return _quantised(site, chosen, 7)


@rule("QLinearConv")
def _conv(site: Foreign) -> Results:
    attributes = site.attributes(without=["channels_last"])
    rest = list(site.node.inputs[1:])

    def conv(x: ir.Value) -> ir.Value:
        return site.op("QLinearConv", "conv", [x, *rest], **attributes)

    return channels_first(site, conv) if site.get("channels_last", 0) else conv(site.x)


@rule("QGemm")
def _gemm(site: Foreign) -> Results:
    columns = 0 if site.get("transB", 0) else 1
    by_column = site.known_rank(4) == 1 and site.static_size(4, 0) != 1
    b = _real(site, 3, "b", axis=columns) if by_column else _real(site, 3, "b")
    inputs = [_real(site, 0, "a"), b]
    if site.input(6) is not None:
        scale = site.op("Mul", "scales", [site.operand(1), site.operand(4)])
        whole = site.op("Cast", "bias_floats", [site.operand(6)], to=int(site.dtype(1)))
        inputs.append(site.op("Mul", "bias", [whole, scale]))
    y = site.op("Gemm", "gemm", inputs, **site.attributes())
    return y if site.input(7) is None else _quantised(site, y, 7)


@rule("DynamicQuantizeMatMul")
def _dynamic_matmul(site: Foreign) -> Results:
    """The input is quantised by its own range, which is found at run time."""
    a, scale, zero = site.many("DynamicQuantizeLinear", "quantised", [site.x], 3)
    return _integer_product(site, (a, scale, zero), (site.operand(2), site.input(3)), site.input(4))


@rule("MatMulIntegerToFloat")
def _matmul_to_float(site: Foreign) -> Results:
    return _integer_product(
        site, (site.x, site.operand(2), site.input(4)), (site.operand(3), site.input(5)), site.input(6)
    )


def _integer_product(
    site: Foreign,
    a: tuple[ir.Value, ir.Value, ir.Value | None],
    b: tuple[ir.Value, ir.Value | None],
    bias: ir.Value | None,
) -> ir.Value:
    """``a`` (numbers, scale, zero point) times the second input (whose scale and zero point are ``b``), as floats."""
    product = site.op("MatMulInteger", "integers", [a[0], site.operand(1), a[2], b[1]])
    scales = site.op("Mul", "scales", [a[1], b[0]])
    y = site.op("Mul", "product", [site.op("Cast", "floats", [product], to=int(ir.DataType.FLOAT)), scales])
    return y if bias is None else site.op("Add", "biased", [y, bias])


# --- few bits ---------------------------------------------------------------------------------------------------------


@rule("MatMulNBits")
def _matmul_few_bits(site: Foreign) -> Results:
    """``Y = A @ W.T``, where each row of W is cut into blocks with a scale (and a zero point) each."""
    site.needs(not site.get("weight_prepacked", 0), "its matrix is laid out for one kind of machine")
    bits, block, rows, columns = (site.get(name) for name in ("bits", "block_size", "N", "K"))
    bits = 4 if bits is None else bits
    packed, scales, zeros, groups = (site.stored(slot) for slot in (1, 2, 3, 4))
    site.needs(packed is not None and scales is not None, "its matrix is computed in the graph")
    site.needs((site.input(3) is None) == (zeros is None), "its zero points are computed in the graph")
    site.needs((site.input(4) is None) == (groups is None), "its groups are computed in the graph")
    site.needs(bits in (2, 4, 8), f"its numbers have {bits} bits")
    assert packed is not None and scales is not None

    def read() -> ir.TensorProtocol:
        numbers = _blocks(packed.numpy(), bits, rows, columns, block, scales, zeros, groups)
        return ir.Tensor(np.ascontiguousarray(numbers.T.astype(scales.dtype.numpy())), dtype=scales.dtype)

    y = site.op("MatMul", "product", [site.x, _matrix(site, 1, read, scales.dtype, (columns, rows))])
    return y if site.input(5) is None else site.op("Add", "biased", [y, site.operand(5)])


@rule("GatherBlockQuantized")
def _gather_blocks(site: Foreign) -> Results:
    """Rows of a table whose numbers are cut into blocks along the last axis."""
    bits, block = site.get("bits", 4), site.get("block_size", 128)
    table, scales, zeros = (site.stored(slot) for slot in (0, 2, 3))
    site.needs(table is not None and scales is not None, "its table is computed in the graph")
    assert table is not None and scales is not None
    shape = [int(size) for size in table.shape.numpy()]
    site.needs(table.dtype == ir.DataType.UINT8 and len(shape) == 2, "its table is no matrix of bytes")
    site.needs(site.get("quantize_axis", 1) in (1, -1) and site.get("gather_axis", 0) == 0, "it goes along other axes")
    rows, columns = shape[0], shape[1] * 8 // bits

    def read() -> ir.TensorProtocol:
        numbers = _blocks(table.numpy(), bits, rows, columns, block, scales, zeros, None)
        return ir.Tensor(numbers.astype(scales.dtype.numpy()), dtype=scales.dtype)

    return site.op("Gather", "rows", [_matrix(site, 0, read, scales.dtype, (rows, columns)), site.operand(1)], axis=0)


def _matrix(
    site: Foreign, slot: int, read: Callable[[], ir.TensorProtocol], dtype: ir.DataType, shape: Sequence[int]
) -> ir.Value:
    """The numbers that a packed initializer stands for, under its name; they are unpacked when they are asked for."""
    name = re.sub(r"[._](MatMul[._])?(weight)?[._]?(Q\d\w*|quant\w*|packed|qweight)$", "", str(site.operand(slot).name))
    name = site.rewriter.value_name(name if name.endswith(".weight") else f"{name}.weight")
    return site.rewriter.add_initializer(name, ir.LazyTensor(read, dtype=dtype, shape=ir.Shape(shape), name=name))


def _blocks(
    packed: np.ndarray,
    bits: int,
    rows: int,
    columns: int,
    block: int,
    scales: ir.TensorProtocol,
    zeros: ir.TensorProtocol | None,
    groups: ir.TensorProtocol | None,
) -> np.ndarray:
    """A matrix (rows, columns) of floats from one whose numbers are packed, the lowest bits of a byte first."""
    count = math.ceil(columns / block)
    numbers = _unpacked(packed.reshape(rows, -1), bits)[:, :columns].astype(np.float32)
    scale = scales.numpy().reshape(rows, count).astype(np.float32)
    if zeros is None:
        zero = np.full((rows, count), 1 << (bits - 1), np.float32)
    elif zeros.dtype == ir.DataType.UINT8:
        zero = _unpacked(zeros.numpy().reshape(rows, -1), bits)[:, :count].astype(np.float32)
    else:
        zero = zeros.numpy().reshape(rows, count).astype(np.float32)
    order = np.arange(columns) // block if groups is None else groups.numpy().reshape(-1)[:columns].astype(int)
    if numbers.shape[1] < columns or (order >= count).any() or (order < 0).any():
        raise CannotReadError("its matrix is smaller than it says")
    return (numbers - zero[:, order]) * scale[:, order]


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Bytes (rows, n) as numbers (rows, n * 8 / bits)."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (packed.view(np.uint8)[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return parts.reshape(packed.shape[0], -1)
