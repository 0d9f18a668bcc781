"""Loads models into onnxruntime: files, entries of a repository, execution providers, options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from dlbridge.errors import FileError, ProviderError, suggest
from dlbridge.repository.layout import find_model
from dlbridge.runtime import graph_cache
from dlbridge.runtime import threads as choice
from dlbridge.runtime.session import Session

#: Short names of execution providers.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "dml": "DmlExecutionProvider",
    "qnn": "QNNExecutionProvider",
}


def load(
    path: str | os.PathLike[str],
    providers: str | Sequence[str] = ("cpu",),
    *,
    version: int | None = None,
    threads: int | None = None,
    spinning: bool = False,
    rows: int = 1,
    arena: bool = True,
    profile: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    tf32: bool = False,
) -> Session:
    """Load a repository entry or an ``.onnx`` file.

    Args:
        path: An entry (``models/digits``) or a file.
        providers: Execution providers, the preferred first: ``cpu``, ``cuda``, ``cuda:1`` (a device), or
            onnxruntime's full names. Nodes that the first cannot run go to the next, and to the CPU at last.
        version: Which version of an entry; the newest when None.
        threads: Threads for one op. When None, one where a call takes less than 5 ms of one core, and as many as there
            are cores where it takes more (on a GPU, onnxruntime's own choice). A thread that is woken for an op costs
            some microseconds, which small ops do not win back. The model is run on zeros to find out; a file of 64 MiB
            counts as large without that.
        spinning: Whether threads that wait for work keep their cores busy. It is quicker on a machine that does nothing
            else, and takes up to half of the work of one that is shared.
        rows: How many rows a call will have, for the choice of threads.
        arena: Whether memory of the CPU is kept for the next call. Without it calls are slower, and what a large input
            needed is given back.
        profile: Write a profile of all that is run to a file whose name begins so (``Session.end_profile``).
        cache: A folder for optimised graphs: a model that was loaded before, by the same onnxruntime on such a
            processor, is not optimised again. On the CPU alone.
        tf32: Whether CUDA may round the factors of products of float32 to 10 bits. It is quicker, and its numbers are
            not those of the certificate.

    Raises:
        FileError: When the file is missing, or onnxruntime cannot load it.
        ProviderError: When a provider is not in this onnxruntime, or cannot be started: there is no silent fall-back.
    """
    file = find_model(path, version)
    asked = [_provider(p, tf32) for p in ([providers] if isinstance(providers, str) else providers)]
    if not asked:
        raise ProviderError("no execution provider is named", hint="'cpu' is always there")
    is_cpu = asked == [("CPUExecutionProvider", {})]

    def opened(threads: int | None, profile: str | os.PathLike[str] | None = None) -> onnxruntime.InferenceSession:
        options = _options(threads, spinning, arena, profile)
        options.log_severity_level = 4 if is_cpu else 3
        return _open(file, options, asked, Path(cache) if cache is not None and is_cpu else None)

    if threads is None and is_cpu and choice.cores() > 1 and not choice.is_large_file(file):
        session = opened(1)
        threads = 1 if choice.is_one_enough(session, str(path), rows) else None
        if threads is None or profile is not None:
            session = opened(threads, profile)
    else:
        session = opened(threads, profile)
    dropped = [name for name, _ in asked if name not in session.get_providers()]
    if dropped:
        raise ProviderError(
            f"{', '.join(dropped)} could not be started; onnxruntime would have run on "
            f"{', '.join(session.get_providers())} without a word",
            where=str(path),
            hint="are the driver and the libraries of the provider installed, and is there a device?",
        )
    return Session(session, str(path))


def _options(
    threads: int | None, spinning: bool, arena: bool, profile: str | os.PathLike[str] | None
) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = arena
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, os.fspath(profile)
    return options


def _open(
    file: Path, options: onnxruntime.SessionOptions, asked: list[tuple[str, dict[str, str]]], cache: Path | None
) -> onnxruntime.InferenceSession:
    """The model in onnxruntime.

    Raises:
        FileError: When onnxruntime cannot load it.
        ProviderError: When a provider cannot be started.
    """
    try:
        if cache is not None:
            return graph_cache.load(file, cache, options, asked)
        return onnxruntime.InferenceSession(str(file), options, providers=asked)
    except Exception as error:  # onnxruntime's exceptions have no base class of their own
        raise _load_error(error, asked, str(file)) from error


def _load_error(error: Exception, asked: list[tuple[str, dict[str, str]]], where: str) -> FileError | ProviderError:
    text = str(error)
    for name, _ in asked:
        if name != "CPUExecutionProvider" and (name in text or "provider" in text.lower()):
            return ProviderError(f"{name} could not be started: {text}", where=where)
    is_none = "Protobuf parsing failed" in text or "No graph was found in the protobuf" in text
    if is_none:
        return FileError(
            "onnxruntime cannot load the model: it is no ONNX file, or it is truncated",
            where=where,
            hint="'dlbridge convert MODEL --to onnx' makes one of other models",
        )
    return FileError(f"onnxruntime cannot load the model: {text}", where=where)


def _provider(name: str, tf32: bool) -> tuple[str, dict[str, str]]:
    """(full name, options) of a provider that a user named.

    Raises:
        ProviderError: When this onnxruntime does not have it.
    """
    short, _, device = name.partition(":")
    full = PROVIDERS.get(short.lower(), short)
    available = onnxruntime.get_available_providers()
    if full not in available:
        known = {v: k for k, v in PROVIDERS.items()}
        there = ", ".join(known.get(p, p) for p in available)
        cuda = "pip install onnxruntime-gpu in the place of onnxruntime" if "cuda" in short.lower() else None
        raise ProviderError(
            f"execution provider '{name}' is not in this onnxruntime; there is {there}",
            hint=cuda or (None if short.lower() in PROVIDERS else suggest(short, PROVIDERS)),
        )
    if device and not device.isdigit():
        raise ProviderError(f"'{device}' is no device number", where=name, hint="for instance cuda:0")
    options = {"device_id": device} if device else {}
    if full == "CUDAExecutionProvider":
        options["use_tf32"] = str(int(tf32))
    return full, options
