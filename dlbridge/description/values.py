"""Plain data <-> the small things of the IR: dtypes, types of values, tensors written in a description, attributes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.errors import DescriptionError, suggest

Attribute = ir.AttributeType

_SPECIAL = {"FLOAT": "float32", "DOUBLE": "float64"}
#: Name of a dtype in descriptions -> the dtype.
DTYPES = {_SPECIAL.get(d.name, d.name.lower()): d for d in ir.DataType if d != ir.DataType.UNDEFINED}
_DTYPE_NAMES: dict[ir.DataType, str] = {d: name for name, d in DTYPES.items()}
_CONTAINERS: dict[str, type] = {
    "sequence": ir.SequenceType,
    "optional": ir.OptionalType,
    "sparse": ir.SparseTensorType,
}


# --- dtypes and types -------------------------------------------------------------------------------------------------


def dtype(name: str) -> ir.DataType:
    """The dtype of that name.

    Raises:
        DescriptionError: When there is none.
    """
    if name not in DTYPES:
        hint = {"float": "float32", "double": "float64", "half": "float16", "int": "int64", "long": "int64"}.get(name)
        near = f"did you mean '{hint}'?" if hint else suggest(name, DTYPES)
        raise DescriptionError(f"unsupported dtype '{name}'", hint=near or f"known: {', '.join(DTYPES)}")
    return DTYPES[name]


def dtype_name(of: ir.DataType) -> str:
    return _DTYPE_NAMES[of]


def type_from(text: str) -> ir.TypeProtocol:
    """``float32``, ``sequence(float32)``, ``optional(sequence(int64))``, ... as a type."""
    word, bracket, rest = text.partition("(")
    if bracket and word in _CONTAINERS and rest.endswith(")"):
        inner = rest[:-1]
        return _CONTAINERS[word](dtype(inner) if word == "sparse" else type_from(inner))
    return ir.TensorType(dtype(text))


def type_to(of: ir.TypeProtocol) -> str:
    """The inverse of :func:`type_from`."""
    if isinstance(of, ir.TensorType):
        return dtype_name(of.dtype)
    word = next(w for w, kind in _CONTAINERS.items() if type(of) is kind)
    inner = dtype_name(of.dtype) if word == "sparse" else type_to(of.elem_type)  # type: ignore[arg-type]
    return f"{word}({inner})"


def shape_to(shape: ir.Shape) -> list[int | str | None]:
    """Sizes and their names; None for an unknown one (and a negative one, which inference makes of empty tensors)."""
    sizes = [size if isinstance(size, int) else size.value for size in shape]
    return [None if isinstance(size, int) and size < 0 else size for size in sizes]


# --- tensors ----------------------------------------------------------------------------------------------------------


def tensor_from(value: Any, of: ir.DataType, shape: tuple[int, ...] | None = None) -> ir.TensorProtocol:
    """Numbers (nested lists, or a flat list with ``shape``) as a tensor.

    Raises:
        DescriptionError: When the lists are ragged, a number does not fit the dtype, or there are too many or too few.
    """
    try:
        array = _array(value, of)
    except (ValueError, TypeError, OverflowError):
        raise DescriptionError(f"these are not numbers of dtype {dtype_name(of)}: {_clip(value)}") from None
    if shape is not None:
        if array.size != math.prod(shape):
            raise DescriptionError(f"{array.size} numbers given for the shape {list(shape)}")
        array = array.reshape(shape)
    if of == ir.DataType.STRING:
        return ir.StringTensor(array)
    return ir.Tensor(np.asarray(array, order="C"), dtype=of)


def _array(value: Any, of: ir.DataType) -> np.ndarray:
    if of == ir.DataType.STRING:
        return _strings(value)
    if of in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        return np.vectorize(complex, otypes=[np.complex128])(value).astype(of.numpy())
    if of == ir.DataType.BOOL:
        array = np.asarray(value, dtype=np.bool_ if np.size(value) == 0 else None)
        if array.dtype != np.bool_:
            raise ValueError(value)
        return array
    if of.is_integer():
        array = np.asarray(value, dtype=np.int64 if np.size(value) == 0 else None)
        if array.dtype.kind not in "iu":
            raise ValueError(value)
        cast = array.astype(of.numpy())
        if (cast.astype(array.dtype) != array).any():
            raise ValueError(value)
        return cast
    array = np.asarray(value)
    if array.dtype.kind not in "iufU" and array.size:
        raise ValueError(value)
    return array.astype(np.float64).astype(of.numpy())


def _strings(value: Any) -> np.ndarray:
    array = np.array(value, dtype=object)
    flat = [v.encode() if isinstance(v, str) else v for v in array.reshape(-1)]
    if not all(isinstance(v, bytes) for v in flat):
        raise ValueError(value)
    result = np.empty(len(flat), dtype=object)
    result[:] = flat
    return result.reshape(array.shape)


def tensor_to(tensor: ir.TensorProtocol) -> Any:
    """The numbers of a tensor as a number or a flat list; :func:`tensor_from` gets the same tensor from them.

    Floats are as short as the dtype allows; what JSON has no number for is a string ('nan', 'inf', '1+2j').
    """
    if tensor.dtype == ir.DataType.STRING:
        words = [v.decode() if isinstance(v, bytes) else str(v) for v in tensor.numpy().reshape(-1)]
        return words if len(tensor.shape) else words[0]
    array = tensor.numpy()
    if tensor.dtype == ir.DataType.BOOL:
        convert: Callable[[Any], Any] = bool
    elif tensor.dtype.is_integer():
        convert = int
    else:
        convert = _float if tensor.dtype.is_floating_point() else lambda v: str(v).strip("()")
    flat = [convert(v) for v in array.reshape(-1)]
    return flat if array.ndim else flat[0]


def _float(value: Any) -> float | str:
    number = float(str(value))
    return number if math.isfinite(number) else str(number)


def natural_dtype(value: Any) -> ir.DataType:
    """The dtype of numbers that come without one: bool, int64, float32 or string."""
    kind = np.asarray(value).dtype.kind
    return {
        "b": ir.DataType.BOOL,
        "i": ir.DataType.INT64,
        "u": ir.DataType.UINT64,
        "U": ir.DataType.STRING,
    }.get(kind, ir.DataType.FLOAT)


def _clip(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# --- attributes -----------------------------------------------------------------------------------------------------


#: Attributes whose value is the number of a dtype; descriptions use its name.
DTYPE_ATTRIBUTES = frozenset(("to", "dtype", "output_dtype", "output_datatype", "softmax_precision", "stash_type"))
_SCALARS: dict[ir.AttributeType, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
    Attribute.INT: ("an integer", lambda v: isinstance(v, int), int),
    Attribute.FLOAT: ("a number", lambda v: _is_number(v), float),
    Attribute.STRING: ("a string", lambda v: isinstance(v, str), str),
}
_LISTS = {Attribute.INTS: Attribute.INT, Attribute.FLOATS: Attribute.FLOAT, Attribute.STRINGS: Attribute.STRING}


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("nan", "inf", "-inf")
    return isinstance(value, int | float) and not isinstance(value, bool)


def attribute_from(
    name: str,
    value: Any,
    wanted: ir.AttributeType | None,
    graph: Callable[[Any, tuple[Any, ...]], ir.Graph],
    tensor_dtype: ir.DataType | None = None,
) -> ir.Attr:
    """Plain data as an attribute.

    Args:
        name: The attribute's name.
        value: A number, a string, a list of them, a tensor (``{dtype, shape, value}`` or bare numbers), a graph, or
            ``{type: ..., value: ...}`` for a type other than ``wanted``.
        wanted: The type that the op's schema says.
        graph: Makes a graph of plain data and the path below the attribute that it stands at.
        tensor_dtype: dtype of bare numbers where a tensor is wanted.

    Raises:
        DescriptionError: When the data are of another type.
    """
    path: tuple[Any, ...] = ()
    if isinstance(value, Mapping) and set(value) == {"type", "value"}:
        kind = str(value["type"]).upper()
        if kind not in Attribute.__members__:
            known = [a.name.lower() for a in Attribute]
            raise DescriptionError(f"unknown attribute type '{value['type']}'", hint=suggest(kind.lower(), known))
        wanted, value, path = ir.AttributeType[kind], value["value"], ("value",)
    if wanted is None:
        wanted = _guess(value)
    if wanted == Attribute.INT and name in DTYPE_ATTRIBUTES and isinstance(value, str):
        return ir.AttrInt64(name, int(dtype(value)))
    if wanted in _SCALARS or wanted in _LISTS:
        return ir.Attr(name, wanted, _plain(name, value, wanted))
    if wanted == Attribute.TENSOR:
        return ir.AttrTensor(name, _tensor(value, tensor_dtype))
    if wanted == Attribute.TENSORS and isinstance(value, list):
        return ir.AttrTensors(name, [_tensor(v, tensor_dtype) for v in value])
    if wanted == Attribute.GRAPH:
        return ir.AttrGraph(name, graph(value, path))
    if wanted == Attribute.GRAPHS and isinstance(value, list):
        return ir.AttrGraphs(name, [graph(v, (*path, i)) for i, v in enumerate(value)])
    if wanted == Attribute.TYPE_PROTO and isinstance(value, Mapping):
        shape = ir.Shape(value["shape"]) if value.get("shape") is not None else None
        return ir.AttrTypeProto(name, ir.TypeAndShape(type_from(str(value.get("dtype"))), shape))
    raise DescriptionError(f"the attribute '{name}' is of type {wanted.name.lower()}, not {_clip(value)}")


def _plain(name: str, value: Any, wanted: ir.AttributeType) -> Any:
    item = _LISTS.get(wanted, wanted)
    text, fits, convert = _SCALARS[item]
    if item is wanted:
        if not fits(value):
            raise DescriptionError(f"'{name}' is {text}, not {_clip(value)}")
        return convert(value)
    values = value if isinstance(value, list) else [value]
    if not all(fits(v) for v in values):
        raise DescriptionError(f"'{name}' is a list, each item {text}, not {_clip(value)}")
    return [convert(v) for v in values]


def _guess(value: Any) -> ir.AttributeType:
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, str):
        kind = Attribute.STRING
    elif isinstance(first, float) or (isinstance(value, list) and any(isinstance(v, float) for v in value)):
        kind = Attribute.FLOAT
    else:
        kind = Attribute.INT
    return {v: k for k, v in _LISTS.items()}[kind] if isinstance(value, list) else kind


def _tensor(value: Any, of: ir.DataType | None) -> ir.TensorProtocol:
    if isinstance(value, Mapping):
        shape = tuple(value["shape"]) if value.get("shape") is not None else None
        return tensor_from(value.get("value", []), dtype(str(value.get("dtype", "float32"))), shape)
    return tensor_from(value, of or natural_dtype(value))


def attribute_to(attribute: ir.Attr, wanted: ir.AttributeType | None, graph: Callable[[ir.Graph], Any]) -> Any:
    """An attribute as plain data, the inverse of :func:`attribute_from`.

    Raises:
        DescriptionError: When it is of a type that a description cannot hold (sparse tensors).
    """
    kind, value = attribute.type, attribute.value
    plain: Any
    if kind == wanted == Attribute.INT and attribute.name in DTYPE_ATTRIBUTES and value in _DTYPE_NAMES:
        return dtype_name(ir.DataType(value))
    if kind in _SCALARS:
        plain = _finite(value)
    elif kind in _LISTS:
        plain = [_finite(v) for v in value]
    elif kind == Attribute.TENSOR:
        plain = tensor_entry(value)
    elif kind == Attribute.TENSORS:
        plain = [tensor_entry(t) for t in value]
    elif kind == Attribute.GRAPH:
        plain = graph(value)
    elif kind == Attribute.GRAPHS:
        plain = [graph(g) for g in value]
    elif kind == Attribute.TYPE_PROTO:
        shape = shape_to(value.shape) if value.shape is not None else None
        plain = {"dtype": type_to(value.type), "shape": shape}
    else:
        raise DescriptionError(f"the attribute '{attribute.name}' is of type {kind.name.lower()}", hint="not supported")
    return plain if kind == wanted else {"type": kind.name.lower(), "value": plain}


def tensor_entry(tensor: ir.TensorProtocol) -> dict[str, Any]:
    """A tensor as ``{dtype, shape, value}``."""
    return {"dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape.numpy()), "value": tensor_to(tensor)}


def _finite(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
