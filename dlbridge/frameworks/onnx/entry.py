"""Repository entries: ``config.pbtxt``, ``1/model.onnx`` and ``certificate.json`` in a folder, as Triton has them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from dlbridge.errors import DlbridgeError, FileError
from dlbridge.files import writing
from dlbridge.frameworks.onnx import genai
from dlbridge.frameworks.onnx.source import OnnxSource
from dlbridge.ops import traits
from dlbridge.repository.config import PLATFORM, Signature, complete, is_name, read, text
from dlbridge.repository.datatypes import DATATYPES
from dlbridge.repository.layout import CERTIFICATE_FILE, CONFIG_FILE, MODEL_FILE, is_version
from dlbridge.repository.messages import ModelConfig

#: Largest batch that a server may send to a model whose batch size is free.
MAX_BATCH_SIZE = 64
_TYPES = {
    ir.DataType.FLOAT: "TYPE_FP32",
    ir.DataType.DOUBLE: "TYPE_FP64",
    ir.DataType.FLOAT16: "TYPE_FP16",
    ir.DataType.BFLOAT16: "TYPE_BF16",
    ir.DataType.BOOL: "TYPE_BOOL",
    ir.DataType.STRING: "TYPE_STRING",
    **{ir.DataType[f"{u}INT{n}"]: f"TYPE_{u}INT{n}" for u in ("", "U") for n in (8, 16, 32, 64)},
}


def save_entry(
    source: OnnxSource,
    folder: str | os.PathLike[str],
    name: str | None = None,
    *,
    certificate: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Path:
    """Write a model into a repository.

    Args:
        source: The written model.
        folder: The repository.
        name: Name of the entry, and so of its folder; the model's when None.
        certificate: What verification has found, as JSON types.
        force: Replace an entry that is there.

    Returns:
        The folder of the entry.

    Raises:
        FileError: When the entry exists and ``force`` is not set.
        DlbridgeError: When an input or output has a type that a repository has no name for.
    """
    entry = Path(folder) / (name or source.name)
    described = config(source, entry.name)
    with writing(entry, force=force) as fresh:
        fresh.mkdir()
        (fresh / CONFIG_FILE).write_text(described, encoding="utf-8")
        source.save(fresh / "1" / MODEL_FILE)
        _write_certificate(fresh, certificate)
        generating = genai.config(source, Path("1") / MODEL_FILE)
        if generating is not None:
            (fresh / genai.FILE).write_text(json.dumps(generating, indent=2) + "\n", encoding="utf-8")
    return entry


def add_version(
    source: OnnxSource,
    repository: str | os.PathLike[str],
    name: str | None = None,
    *,
    certificate: Mapping[str, Any] | None = None,
) -> Path:
    """Put a model into a repository, as the next version of its entry; the first makes the entry.

    Args:
        source: The written model.
        repository: The repository.
        name: Name of the entry; the model's when None.
        certificate: What verification has found, as JSON types.

    Returns:
        The folder of the version.

    Raises:
        FileError: When the entry's configuration does not fit the model.
    """
    name = name or source.name
    if not is_name(name):
        raise FileError(f"'{name}' is no name of a model in a repository", hint="name the model: --name")
    entry = Path(repository) / name
    if not entry.exists():
        return save_entry(source, repository, name, certificate=certificate) / "1"
    complete(read(entry), _signature(source), str(entry / CONFIG_FILE))
    version = max((int(p.name) for p in entry.iterdir() if is_version(p.name)), default=0) + 1
    with writing(entry / str(version)) as fresh:
        source.save(fresh / MODEL_FILE)
        _write_certificate(fresh, certificate)
    return entry / str(version)


def _write_certificate(folder: Path, certificate: Mapping[str, Any] | None) -> None:
    if certificate is not None:
        certified = json.dumps(certificate, indent=2) + "\n"
        (folder / CERTIFICATE_FILE).write_text(certified, encoding="utf-8")


def _signature(source: OnnxSource) -> Signature:
    graph = source.file_ir.graph
    inputs = [v for v in graph.inputs if not v.is_initializer()]
    return Signature(
        {v.name or "": _described(v) for v in inputs}, {v.name or "": _described(v) for v in graph.outputs}
    )


def _described(value: ir.Value) -> tuple[str, tuple[int | str, ...]]:
    _check_type(value)
    return DATATYPES[_TYPES[value.dtype]], tuple(s if isinstance(s, int) else -1 for s in value.shape or ())  # type: ignore[index]


def config(source: OnnxSource, name: str, max_batch_size: int = MAX_BATCH_SIZE) -> str:
    """``config.pbtxt`` of a model: Triton's ``ModelConfig`` as text.

    A model whose inputs and outputs all have one free first size gets ``max_batch_size``, and its ``dims`` are those
    of one row, as Triton wants it; any other model gets ``max_batch_size: 0`` and all its dims. Free sizes are -1.
    Requests are not joined to batches by the server: whether rows are independent is not known here.
    """
    graph = source.file_ir.graph
    inputs = [v for v in graph.inputs if not v.is_initializer()]
    firsts = {_first(v) for v in (*inputs, *graph.outputs)}
    batched = len(firsts) == 1 and isinstance(next(iter(firsts)), str)
    found = ModelConfig(name=name, platform=PLATFORM, max_batch_size=max_batch_size if batched else 0)
    for ports, values in ((found.input, inputs), (found.output, graph.outputs)):
        for value in values:
            _add_port(ports, value, batched)
    settings = source.ir.metadata_props.get(traits.GENERATION)
    if settings is not None:  # a server that takes requests for text knows its special tokens by it
        found.parameters[traits.GENERATION].string_value = settings
    return text(found)


def _first(value: ir.Value) -> int | str | None:
    if value.shape is None or not len(value.shape):
        return None
    first = value.shape[0]
    return first if isinstance(first, int) else first.value


def _check_type(value: ir.Value) -> None:
    if value.dtype not in _TYPES:
        raise DlbridgeError(f"a repository has no name for the type {value.dtype}", where=value.name)
    if value.shape is None:
        raise DlbridgeError("its shape is not known, a repository needs it", where=value.name)


def _add_port(ports: Any, value: ir.Value, batched: bool) -> None:
    _check_type(value)
    assert value.dtype is not None
    sizes = [s if isinstance(s, int) else -1 for s in value.shape or ()][1 if batched else 0 :]
    port = ports.add(name=value.name, data_type=_TYPES[value.dtype], dims=sizes or [1])
    if not sizes:  # Triton wants a dim, and is told that there is none
        port.reshape.SetInParent()
