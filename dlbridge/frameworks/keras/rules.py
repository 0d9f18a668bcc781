"""The registry of Keras' writing rules, and what the rules share."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.source.code import Raw
from dlbridge.source.op import Op, Rules

#: ``@rules("Relu")`` over a function ``Op -> Code | Emit`` makes it the rule of an op.
rules = Rules("keras")

KERAS_DTYPES: dict[ir.DataType, str] = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.DOUBLE: "float64",
    ir.DataType.FLOAT16: "float16",
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.INT8: "int8",
    ir.DataType.INT16: "int16",
    ir.DataType.INT32: "int32",
    ir.DataType.INT64: "int64",
    ir.DataType.UINT8: "uint8",
    ir.DataType.UINT16: "uint16",
    ir.DataType.UINT32: "uint32",
    ir.DataType.UINT64: "uint64",
    ir.DataType.BOOL: "bool",
    ir.DataType.COMPLEX64: "complex64",
    ir.DataType.COMPLEX128: "complex128",
    ir.DataType.FLOAT8E4M3FN: "float8_e4m3fn",
    ir.DataType.FLOAT8E5M2: "float8_e5m2",
}

#: Activations that a layer can apply itself: ``layers.Dense(128, activation="relu")``.
FUSED_ACTIVATIONS = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Selu": "selu",
    "Mish": "mish",
    "HardSwish": "hard_swish",
    "Swish": "silu",
    "Elu": "elu",
    "Gelu": "gelu",
    "Softmax": "softmax",
}

#: Ops whose Keras layer takes ``activation=``.
TAKES_ACTIVATION = {"Linear", "Conv", "ConvTranspose"}


def keras_dtype(op: Op, dtype: ir.DataType) -> Raw:
    """A dtype as Keras calls it, quoted; refused by name when Keras has none."""
    if dtype not in KERAS_DTYPES:
        op.refuse(f"Keras has no dtype {dtype.name}")
    return Raw(f'"{KERAS_DTYPES[dtype]}"')


def fused_activation(node: ir.Node) -> str | None:
    """The name under which a layer can apply this activation node itself, or None."""
    name = FUSED_ACTIVATIONS.get(node.op_type) if node.domain == "" else None
    attributes = {k: a.value for k, a in node.attributes.items()}
    match node.op_type:
        case "Softmax":
            shape = node.inputs[0].shape if node.inputs[0] is not None else None
            last = shape is not None and attributes.get("axis", -1) in (-1, len(shape) - 1)
            return name if last else None
        case "Gelu":
            return name if attributes.get("approximate", "none") == "none" else None
        case "Elu" | "Swish":
            return name if attributes.get("alpha", 1.0) == 1.0 else None
        case "Selu":
            return name if not attributes else None
    return name
