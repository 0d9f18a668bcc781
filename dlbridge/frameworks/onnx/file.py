"""Loads an ONNX file or ``ModelProto`` after checking its tensors, the files that it refers to, and its size."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from dlbridge.errors import FileError, first_line
from dlbridge.frameworks.onnx import zip_maps
from dlbridge.limits import limits, raise_hint

_TENSOR = onnx.TensorProto
#: dtype -> (field with its numbers if they are not raw bytes, entries of that field per number).
_FIELDS: dict[int, tuple[str, float]] = {
    _TENSOR.FLOAT: ("float_data", 1),
    _TENSOR.COMPLEX64: ("float_data", 2),
    _TENSOR.DOUBLE: ("double_data", 1),
    _TENSOR.COMPLEX128: ("double_data", 2),
    _TENSOR.INT64: ("int64_data", 1),
    **dict.fromkeys((_TENSOR.UINT32, _TENSOR.UINT64), ("uint64_data", 1)),
    _TENSOR.STRING: ("string_data", 1),
}


def load(source: Any, where: str) -> ir.Model:
    """The graph of a file, a ``ModelProto`` or an ``onnx_ir.Model`` (which stays as it is); its tensors are there.

    Raises:
        FileError: When the file is missing, truncated, not ONNX, has a cycle, asks for more work than the limits allow,
            or reads files outside its folder.
    """
    if isinstance(source, ir.Model):
        model = source.clone()
        _check_external_tensors(model, where)
    elif isinstance(source, onnx.ModelProto):
        model = _deserialize(source, None, where)
    else:
        model = _read(Path(source), where)
    for node in model.graph.all_nodes():
        model.opset_imports.setdefault(node.domain, 1)  # onnxruntime knows its own ops without being told
        if any(attribute.is_ref() for attribute in node.attributes.values()):
            raise FileError(f"'{node.name}' refers to an attribute of a function, and is in none", where=where)
    _check_order(model, where)
    _check_expansion(model, where)
    if not isinstance(source, (str, os.PathLike)):
        for value in model.graph.initializers.values():
            if value.const_value is not None:  # a tensor of our own, so that renaming does not reach the caller's
                value.const_value = view(value.const_value)
    return model


def view(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """Another tensor of the same numbers, read when they are asked for."""
    return ir.LazyTensor(lambda: tensor, dtype=tensor.dtype, shape=ir.Shape(tensor.shape), name=tensor.name)


def _read(path: Path, where: str) -> ir.Model:
    if not path.is_file():
        raise FileError("no such file", where=where)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except (DecodeError, ValueError):
        raise FileError("this is not an ONNX file, or it is truncated", where=where) from None
    if not proto.HasField("graph") or not proto.opset_import:
        raise FileError("this is not an ONNX file: it has no graph or no opset", where=where)
    model = _deserialize(proto, path.parent, where)
    ir.external_data.set_base_dir(model.graph, path.parent)
    return model


def _deserialize(proto: onnx.ModelProto, folder: Path | None, where: str) -> ir.Model:
    """The graph of a ``ModelProto``; without a ``folder``, it may name no other file."""
    _check_opsets(proto, where)
    for graph in _graphs(proto):
        if not all(isinstance(text, str) for text in _texts(graph)):  # protobuf returns text that is not UTF-8 as bytes
            raise FileError("a name in it is no UTF-8 text", where=where)
        sparse = any(_is_sparse(attribute) for node in graph.node for attribute in node.attribute)
        if graph.sparse_initializer or sparse:
            raise FileError("it has sparse tensors", where=where, hint="write them as dense ones")
        for tensor in graph.initializer:
            _check_data(tensor, folder, where)
    for tensor in onnx.external_data_helper._get_attribute_tensors(proto):
        _check_data(tensor, folder, where)
    proto, dictionaries = zip_maps.without(proto)
    try:
        model = ir.serde.deserialize_model(proto)
    except (ir.serde.SerdeError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        reason = first_line(error.__cause__ or error)
        raise FileError(f"the graph is broken: {reason}", where=where) from None
    if dictionaries:
        model.graph.meta[zip_maps.DROPPED] = dictionaries
    return model


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph of a model and all graphs within its nodes and functions."""
    pending: list[Any] = [proto.graph, *proto.functions]
    while pending:
        graph = pending.pop()
        if isinstance(graph, onnx.GraphProto):
            yield graph
        for node in graph.node:
            for attribute in node.attribute:
                pending += [attribute.g] if attribute.HasField("g") else []
                pending += list(attribute.graphs)


def _is_sparse(attribute: onnx.AttributeProto) -> bool:
    return attribute.HasField("sparse_tensor") or bool(attribute.sparse_tensors)


def _texts(graph: onnx.GraphProto) -> Iterator[Any]:
    yield graph.name
    for named in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield named.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)


def _check_opsets(proto: onnx.ModelProto, where: str) -> None:
    newest = onnx.defs.onnx_opset_version()
    for opset in (*proto.opset_import, *(o for function in proto.functions for o in function.opset_import)):
        if opset.domain in ("", "ai.onnx") and not 1 <= opset.version <= newest:
            raise FileError(f"opset {opset.version} is not known; the newest is {newest}", where=where)


# --- tensors ----------------------------------------------------------------------------------------------------------


def _check_data(tensor: onnx.TensorProto, folder: Path | None, where: str) -> None:
    """Check that a tensor's numbers are there and are as many as its shape says."""
    try:
        bits = 8 if tensor.data_type == _TENSOR.STRING else ir.DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError):
        raise FileError(f"'{tensor.name}' has the unknown dtype {tensor.data_type}", where=where) from None
    if any(dim < 0 for dim in tensor.dims):
        raise FileError(f"'{tensor.name}' has a negative size", where=where)
    count = math.prod(tensor.dims)
    if max((count, *tensor.dims)) > limits().elements:
        raise FileError(f"'{tensor.name}' has {count:,} elements", where=where, hint=raise_hint("elements"))
    size = (count * bits + 7) // 8
    if tensor.data_location == _TENSOR.EXTERNAL:
        _check_external(tensor, size, folder, where)
    elif tensor.HasField("raw_data"):
        if tensor.data_type == _TENSOR.STRING or len(tensor.raw_data) != size:
            raise FileError(f"'{tensor.name}' has {len(tensor.raw_data)} bytes where {size} are due", where=where)
    else:
        field, each = _FIELDS.get(tensor.data_type, ("int32_data", min(bits, 8) / 8))
        due, given = math.ceil(count * each), len(getattr(tensor, field))
        if due != given:
            raise FileError(f"'{tensor.name}' has {given} numbers where {due} are due", where=where)


def _check_external(tensor: onnx.TensorProto, size: int, folder: Path | None, where: str) -> None:
    info = {entry.key: entry.value for entry in tensor.external_data}
    location = info.get("location", "")
    if folder is None:
        raise FileError(
            f"the data of '{tensor.name}' are in another file ({location!r}), and a model in memory has no folder",
            where=where,
            hint="give the .onnx file itself, or load its data with onnx.load",
        )
    target = _inside(folder, location)
    if target is None:
        raise FileError(f"the data of '{tensor.name}' would be outside the file's folder: {location!r}", where=where)
    if not target.is_file():
        raise FileError(f"the data of '{tensor.name}' is missing: {location}", where=where)
    offset, length = (info.get(key, "") for key in ("offset", "length"))
    if not all((text.isascii() and text.isdigit() and len(text) < 20) or text == "" for text in (offset, length)):
        raise FileError(f"the data of '{tensor.name}' has no proper place: {offset!r}, {length!r}", where=where)
    if int(length or size) != size or int(offset or 0) + size > target.stat().st_size:
        raise FileError(f"the data of '{tensor.name}' is truncated in {location}", where=where)


def _inside(folder: Path, location: str) -> Path | None:
    """The file of that name in a folder, links followed; None where it would be outside."""
    if not location or os.path.isabs(location) or "\0" in location:
        return None
    target = (folder / location).resolve()
    return target if target.is_relative_to(folder.resolve()) else None


def _check_external_tensors(model: ir.Model, where: str) -> None:
    """The rule of files for a live model: its data are in the folder that it says it was loaded from."""
    for tensor in _tensors(model):
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        folder, location = os.fspath(tensor.base_dir), os.fspath(tensor.location)
        if not folder or _inside(Path(folder), location) is None:
            what = f"the data of '{tensor.name}' would be outside the model's folder: {location!r}"
            raise FileError(what, where=where, hint="set the folder with onnx_ir.external_data.set_base_dir")


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    for graph in (model.graph, *model.graph.subgraphs(), *model.functions.values()):
        if isinstance(graph, ir.Graph):
            yield from (v.const_value for v in graph.initializers.values() if v.const_value is not None)
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    yield attribute.as_tensor()
                elif attribute.type == ir.AttributeType.TENSORS and not attribute.is_ref():
                    yield from attribute.as_tensors()


# --- work -------------------------------------------------------------------------------------------------------------


def _check_order(model: ir.Model, where: str) -> None:
    """Sort the nodes topologically.

    Raises:
        FileError: When there is none.
    """
    for graph in (model.graph, *model.functions.values()):
        _check_defined(graph, where)
        if not _is_ordered(graph):
            try:
                graph.sort()
            except ValueError:
                raise FileError(
                    "the graph has a cycle: a node reads what is made of its own output", where=where
                ) from None


def _check_defined(graph: ir.Graph | ir.Function, where: str) -> None:
    """Check that every value that is read is a node's output, an input or an initializer."""
    for node in graph:
        for body in _bodies(node):
            _check_defined(body, where)
    for value in (*(v for node in graph for v in _reads(node)), *graph.outputs):
        if value.producer() is None and not value.is_graph_input() and not value.is_initializer():
            raise FileError(f"nothing makes '{value.name}', which is read", where=where)


def _is_ordered(graph: ir.Graph | ir.Function) -> bool:
    done: set[ir.Node] = set()
    for node in graph:
        for value in _reads(node):
            maker = value.producer()
            if maker is not None and maker.graph is node.graph and maker not in done:
                return False
        done.add(node)
    return all(_is_ordered(body) for node in graph for body in _bodies(node))


def _reads(node: ir.Node) -> Iterable[ir.Value]:
    return (value for value in node.inputs if value is not None)


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _check_expansion(model: ir.Model, where: str) -> None:
    """Check that the functions of a file do not call themselves, and how many nodes they make where they are called."""
    known: dict[Any, int] = {}

    def count(graph: ir.Graph | ir.Function, stack: tuple[Any, ...]) -> int:
        total = 0
        for node in graph:
            key = node.op_identifier()
            function = model.functions.get(key)
            if key in stack:
                raise FileError(f"the function '{node.op_type}' calls itself", where=where)
            if function is not None and key not in known:
                known[key] = count(function, (*stack, key))
            total += 1 if function is None else known[key]
            total += sum(count(body, stack) for body in _bodies(node))
        return total

    total = count(model.graph, ())
    if total > limits().nodes:
        raise FileError(f"it has {total:,} nodes, its functions expanded", where=where, hint=raise_hint("nodes"))
