"""The initializers of a new model: constants, weights made from the seed, and weights that are given."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from dlbridge.description import values
from dlbridge.description.schema import InitializerEntry
from dlbridge.errors import DescriptionError, WeightsError, suggest
from dlbridge.limits import limits, raise_hint
from dlbridge.ops import initializers, traits


def from_entry(name: str, entry: InitializerEntry, seed: int) -> ir.Value:
    """An entry of a description's ``initializers``; without ``value`` and ``init`` it has no numbers yet.

    Raises:
        DescriptionError: When the entry has no shape, or what it says does not fit together.
    """
    default = values.natural_dtype(entry.value) if entry.value is not None else ir.DataType.FLOAT
    of = values.dtype(entry.dtype) if entry.dtype else default
    kind = entry.kind or ("constant" if entry.value is not None else "parameter")
    shape = tuple(int(s) for s in entry.shape) if entry.shape is not None else None
    if entry.value is not None:
        value = constant(name, values.tensor_from(entry.value, of, shape), kind)
    elif shape is None:
        raise DescriptionError(f"'{name}' needs a shape", hint="or its numbers, as 'value'")
    elif entry.init is not None:
        value = started(name, of, shape, initializers.check(entry.init), kind, seed)
    else:
        value = ir.Value(name=name, type=ir.TensorType(of), shape=ir.Shape(shape))
        traits.set_kind(value, kind)
    value.metadata_props.update(entry.metadata)
    return value


def constant(name: str, tensor: ir.TensorProtocol, kind: traits.Kind = "constant") -> ir.Value:
    """An initializer with these numbers."""
    shape = ir.Shape(tensor.shape.numpy())
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
    traits.set_kind(value, kind)
    return value


def started(
    name: str, of: ir.DataType, shape: tuple[int, ...], init: Mapping[str, Any], kind: traits.Kind, seed: int
) -> ir.Value:
    """A weight whose numbers are made from the seed on first use."""

    def numbers() -> ir.Tensor[Any]:
        return ir.Tensor(initializers.make(init, name, shape, seed).astype(of.numpy()), dtype=of, name=name)

    initializers.check_shape(init, shape)
    count = math.prod(shape)
    if count > limits().elements:
        what = f"the weight '{name}' of shape {list(shape)} would have {count:,} elements"
        raise DescriptionError(what, hint=raise_hint("elements"))
    value = constant(name, ir.LazyTensor(numbers, of, ir.Shape(shape), cache=True, name=name), kind)
    value.metadata_props[traits.INIT] = json.dumps(dict(init))
    return value


def fill(known: Mapping[str, ir.Value], weights: Mapping[str, ir.TensorProtocol]) -> None:
    """Set the numbers of initializers.

    Raises:
        WeightsError: When a name, a shape or a dtype differs, or some weights are given and others are not.
    """
    for name, tensor in weights.items():
        value = known.get(name)
        if value is None:
            raise WeightsError("no weight of that name in the model", where=name, hint=suggest(name, known))
        assert value.shape is not None and value.dtype is not None
        expected = tuple(value.shape.numpy())
        if tuple(tensor.shape.numpy()) != expected:
            raise WeightsError(f"shape {list(tensor.shape)} given, {list(expected)} expected", where=name)
        if tensor.dtype != value.dtype:
            given, wanted = values.dtype_name(tensor.dtype), values.dtype_name(value.dtype)
            raise WeightsError(f"dtype {given} given, {wanted} expected", where=name)
        value.const_value = tensor
    absent = [n for n, v in known.items() if n not in weights and isinstance(v.const_value, ir.LazyTensor)]
    if weights and absent:
        raise WeightsError(f"the weights do not hold '{absent[0]}'", hint=f"missing: {len(absent)}")
