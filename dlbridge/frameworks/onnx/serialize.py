"""An ONNX file, written one tensor at a time: the weights are never all in memory, as ``ModelProto`` would have them.

The format is protobuf's: each field is its number and wire type, then (here) the length of what follows. Field order
is free, so the initializers come after the rest of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_ir as ir

from dlbridge.files import writing

#: Largest ``.onnx`` file, a limit of protobuf. The weights of a larger model are in a file beside it.
LARGEST_FILE = 2**31 - 1
#: Weights of an external file begin at multiples of this, so that runtimes can map them.
_ALIGNMENT = 4096
#: Tensors up to this size stay in the model file: shapes and axes must be at hand when the graph is read.
_SMALL = 1024
_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number


def initializers(model: ir.Model) -> list[ir.Value]:
    """Those with numbers; strings have no bytes of their own and stay in the graph."""
    return [v for v in model.graph.initializers.values() if _has_numbers(v.const_value)]


def _has_numbers(tensor: ir.TensorProtocol | None) -> bool:
    return tensor is not None and tensor.dtype != ir.DataType.STRING


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    assert value.const_value is not None
    return value.const_value


def weights_size(model: ir.Model) -> int:
    """Bytes of the initializers."""
    return sum(_tensor(v).nbytes for v in initializers(model))


def without_weights(model: ir.Model, shown: int = _SMALL) -> onnx.ModelProto:
    """The model with initializers of up to ``shown`` bytes; larger ones are inputs, by dtype and shape."""
    graph = model.graph.clone()
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and _has_numbers(tensor) and tensor.nbytes > shown:
            value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
            del graph.initializers[name]
            value.const_value = None
            if not value.is_graph_input():
                graph.inputs.append(value)
    bare = ir.Model(
        graph,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        metadata_props=dict(model.metadata_props),
    )
    _load_external(graph)
    return ir.to_proto(bare)


def _load_external(graph: ir.Graph) -> None:
    """Hold what stays in a graph in memory: a tensor in a file is written as a reference to that file."""
    for holder in (graph, *graph.subgraphs()):
        for value in holder.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)


def write(model: ir.Model, file: BinaryIO) -> None:
    """Write a model, weights included, to an open file.

    Raises:
        ValueError: When it is larger than protobuf allows.
    """
    if weights_size(model) > LARGEST_FILE:
        raise ValueError("larger than 2 GiB")
    _write(model, file, [(v, None) for v in initializers(model)])


def save(model: ir.Model, path: Path, *, force: bool = False, largest_file: int = LARGEST_FILE) -> None:
    """Write a model to a file; when it is larger than ``largest_file``, its weights to ``<name>.data`` beside it.

    Raises:
        FileError: When one of the files exists and ``force`` is not set.
    """
    text = without_weights(model).ByteSize()
    if weights_size(model) + text <= largest_file:
        with writing(path, force=force) as fresh, fresh.open("wb") as file:
            write(model, file)
        return
    data = path.with_name(path.name + ".data")
    with writing(path, force=force) as fresh, writing(data, force=force) as fresh_data:
        places = _write_data(initializers(model), data.name, fresh_data)
        with fresh.open("wb") as file:
            _write(model, file, places)


def _write_data(values: Iterable[ir.Value], name: str, path: Path) -> list[tuple[ir.Value, dict[str, str] | None]]:
    """Write the larger tensors to the data file; where each one is, or None for those that stay."""
    places: list[tuple[ir.Value, dict[str, str] | None]] = []
    with path.open("wb") as file:
        for value in values:
            tensor = _tensor(value)
            if tensor.nbytes <= _SMALL:
                places.append((value, None))
                continue
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            offset = file.tell()
            _write_numbers(tensor, file)
            places.append((value, {"location": name, "offset": str(offset), "length": str(tensor.nbytes)}))
    return places


def _write(model: ir.Model, file: BinaryIO, places: list[tuple[ir.Value, dict[str, str] | None]]) -> None:
    proto = without_weights(model, shown=-1)
    weights = {v.name for v, _ in places}
    kept = [i for i in proto.graph.input if i.name not in weights]
    # the metadata of a weight is stored in its value info
    proto.graph.value_info.extend(i for i in proto.graph.input if i.name in weights and i.metadata_props)
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    heads = [_head(value, place) for value, place in places]
    tensors = [len(h) + (_raw_size(v) if place is None else 0) for h, (v, place) in zip(heads, places, strict=True)]
    body = len(graph) + sum(len(_field(_INITIALIZER, n)) + n for n in tensors)
    file.write(proto.SerializeToString() + _field(_GRAPH, body) + graph)
    for (value, place), head, size in zip(places, heads, tensors, strict=True):
        file.write(_field(_INITIALIZER, size) + head)
        if place is None:
            tensor = _tensor(value)
            file.write(_field(_RAW_DATA, tensor.nbytes))
            _write_numbers(tensor, file)


def _write_numbers(tensor: ir.TensorProtocol, file: BinaryIO) -> None:
    if hasattr(tensor, "tofile"):  # all of onnx_ir's own do: no copy is made
        tensor.tofile(file)
    else:
        file.write(tensor.tobytes())


def _head(value: ir.Value, place: dict[str, str] | None) -> bytes:
    """A tensor without its numbers."""
    tensor = _tensor(value)
    proto = onnx.TensorProto(name=value.name, data_type=int(tensor.dtype), dims=tensor.shape.numpy())
    for key, text in (place or {}).items():
        proto.external_data.add(key=key, value=text)
    if place is not None:
        proto.data_location = onnx.TensorProto.EXTERNAL
    return proto.SerializeToString()


def _raw_size(value: ir.Value) -> int:
    size = _tensor(value).nbytes
    return len(_field(_RAW_DATA, size)) + size


def _field(number: int, length: int) -> bytes:
    """Tag of a length-delimited field, and its length."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
