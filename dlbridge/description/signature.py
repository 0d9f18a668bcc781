"""The inputs, outputs and attributes of an op, from its ONNX schema or its extension function."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TypeAlias

import onnx
import onnx_ir as ir

from dlbridge.description import layers
from dlbridge.errors import DescriptionError, suggest
from dlbridge.ops import extension
from dlbridge.ops.traits import IR_OPSET

Schema: TypeAlias = onnx.defs.OpSchema
Parameter: TypeAlias = onnx.defs.OpSchema.FormalParameter

#: Name of an op in other frameworks -> its ONNX name.
_OTHER_NAMES = {
    "dense": "Linear",
    "fullyconnected": "Linear",
    "conv1d": "Conv",
    "conv2d": "Conv",
    "conv3d": "Conv",
    "maxpooling2d": "MaxPool",
    "maxpool2d": "MaxPool",
    "avgpool2d": "AveragePool",
    "averagepooling2d": "AveragePool",
    "avgpool": "AveragePool",
    "batchnorm": "BatchNormalization",
    "batchnorm2d": "BatchNormalization",
    "layernorm": "LayerNormalization",
    "groupnorm": "GroupNormalization",
    "rmsnorm": "RMSNormalization",
    "multiheadattention": "Attention",
    "concatenate": "Concat",
    "upsampling2d": "Resize",
    "permute": "Transpose",
    "multiply": "Mul",
    "subtract": "Sub",
    "silu": "Swish",
}


#: Inputs that are vectors; a single number may be written for a vector of one element.
VECTORS = frozenset(("axes", "shape", "starts", "ends", "steps", "repeats", "split", "sizes", "scales", "pads", "K"))


@functools.cache
def schema(domain: str, op_type: str) -> Schema | None:
    """The schema of an op; None for an unknown op."""
    if domain == extension.DOMAIN:
        return _extension_schema(op_type)
    try:
        return onnx.defs.get_schema(op_type, IR_OPSET, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return None


def _extension_schema(op_type: str) -> Schema | None:
    """A schema made from a function's signature; an input that one of the overloads lacks is optional."""
    if op_type not in extension.EXTENSION_OPS:
        return None
    function = extension.function(op_type)
    option = Schema.FormalParameterOption
    floats = ["tensor(float)", "tensor(double)", "tensor(float16)", "tensor(bfloat16)"]
    optional = op_type == "Linear"
    inputs = [
        Parameter(
            v.name,
            "TI" if v.name in ("indices", "zero_point") else "T",
            param_option=option.Optional if optional and i == len(function.inputs) - 1 else option.Single,
        )
        for i, v in enumerate(function.inputs)
    ]
    attributes = [
        onnx.defs.OpSchema.Attribute(a.name, onnx.defs.OpSchema.AttrType(a.type.value), "", required=False)
        for a in function.attributes.values()
    ]
    return onnx.defs.OpSchema(
        op_type,
        extension.DOMAIN,
        extension.DOMAIN_VERSION,
        inputs=inputs,
        outputs=[Parameter(v.name, "T") for v in function.outputs],
        type_constraints=[("T", floats, ""), ("TI", ["tensor(int32)", "tensor(int64)"], "")],
        attributes=attributes,
    )


def ops() -> list[str]:
    """The names of all ops that a description can use without a domain."""
    return list(_ops())


@functools.cache
def _ops() -> tuple[str, ...]:
    standard = {s.name for s in onnx.defs.get_all_schemas() if s.domain == "" and schema("", s.name)}
    return tuple(sorted(standard | set(extension.EXTENSION_OPS)))


def attribute_type(of: Schema | None, name: str) -> ir.AttributeType | None:
    """The type of an attribute in an op's schema."""
    if of is None or name not in of.attributes:
        return None
    return ir.AttributeType(of.attributes[name].type.value)


def type_text(of: ir.DataType) -> str:
    """ONNX' name for a tensor of that dtype: ``tensor(float)``."""
    return f"tensor({of.name.lower()})"


def is_variadic(parameter: Parameter) -> bool:
    return parameter.option == Schema.FormalParameterOption.Variadic


def is_optional(parameter: Parameter) -> bool:
    return parameter.option == Schema.FormalParameterOption.Optional


def find(op: str, domain: str) -> tuple[str, Schema | None]:
    """The domain of an op and what is known of it; None for an op of a foreign domain.

    Raises:
        DescriptionError: When a known domain has no such op.
    """
    if not domain and op in extension.EXTENSION_OPS:
        domain = extension.DOMAIN
    known = schema(domain, op)
    if known is None and domain in ("", "ai.onnx", extension.DOMAIN):
        word = op.lower().replace("_", "")
        alias = {name.lower(): name for name in ops()}.get(word) or _OTHER_NAMES.get(word)
        near = f"did you mean '{alias}'?" if alias else suggest(op, ops())
        raise DescriptionError(f"unknown op '{op}'", hint=near or "ops have their ONNX names")
    return domain, known


def unknown_key(op: str, of: Schema | None, key: str, node_keys: list[str]) -> DescriptionError:
    """The error of a key that is neither an attribute, an input nor a size of an op."""
    inputs = [p.name for p in of.inputs][1:] if of else []
    attributes = sorted(of.attributes) if of else []
    known = [*layers.SIZES.get(op, ()), *layers.NAMES.get(op, ()), *attributes, *inputs]
    hint = suggest(key, [*known, *node_keys]) or f"it has: {', '.join(known) or 'none'}"
    return DescriptionError(f"{op} has no attribute or input '{key}'", hint=hint)


def slot(of: Schema | None, op: str, key: str) -> int | None:
    """The input that a key refers to, by the name of a weight or the ONNX name of the input in any case."""
    if key in layers.NAMES.get(op, {}):
        return layers.NAMES[op][key]
    if of is None:
        return None
    names = [p.name for p in of.inputs if not is_variadic(p)]
    if key in names:
        return names.index(key)
    lower = [n.lower() for n in names]
    return lower.index(key.lower()) if lower.count(key.lower()) == 1 else None


def constant_dtype(
    of: Schema,
    parameter: Parameter,
    natural: ir.DataType,
    inputs: list[ir.Value | None],
) -> ir.DataType:
    """dtype of a constant: the one that the op fixes, that of an input of the same type, or the natural one."""
    if parameter.type_str.startswith("tensor("):
        return _onnx_dtype(parameter.type_str)
    for slot, value in enumerate(inputs):
        other = of.inputs[min(slot, len(of.inputs) - 1)]
        if other.type_str == parameter.type_str and value is not None and value.dtype is not None:
            return value.dtype
    allowed = next(c.allowed_type_strs for c in of.type_constraints if c.type_param_str == parameter.type_str)
    kinds = [_onnx_dtype(t) for t in allowed if t.startswith("tensor(")]
    if natural in kinds:
        return natural
    return next((d for d in (ir.DataType.FLOAT, ir.DataType.INT64) if d in kinds), kinds[0])


def _onnx_dtype(type_text: str) -> ir.DataType:
    return ir.DataType[type_text.removeprefix("tensor(").removesuffix(")").upper()]


def output_keys(
    op: str, of: Schema | None, inputs: list[ir.Value | None], attributes: Mapping[str, ir.Attr]
) -> list[str] | None:
    """The names of a node's outputs; numbers for an op with any number of them; None for an unknown op."""
    if of is None:
        return None
    if op == "BatchNormalization":
        return ["Y"]  # the others are for training, and a model is in inference form
    if not is_variadic(of.outputs[-1]):
        return [p.name for p in of.outputs]
    graphs = [a.as_graph() for a in attributes.values() if a.type == ir.AttributeType.GRAPH]
    if graphs:
        count = len(graphs[0].outputs) - (op == "Loop")
    elif op == "Split" and "num_outputs" in attributes:
        count = attributes["num_outputs"].as_int()
    elif op == "Split" and len(inputs) > 1 and inputs[1] is not None and inputs[1].shape is not None:
        count = int(inputs[1].shape[0])  # type: ignore[arg-type]
    else:
        raise DescriptionError(f"{op} needs 'outputs', the names of what it makes", hint="for example: outputs: [a, b]")
    return [str(i) for i in range(count)]
