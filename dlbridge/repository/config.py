"""``config.pbtxt``: how a model is served. Read, completed from the model's own signature, and checked.

The language is Triton's (``protos/model_config.proto``), in protobuf's text format. What Triton refuses is refused
here, and so is what Triton does and this server does not (sequence batching, decoupled models).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format

from dlbridge.errors import FileError
from dlbridge.repository.datatypes import CONFIG_TYPES, DATATYPES
from dlbridge.repository.layout import CONFIG_FILE, MODEL_FILE, read_text
from dlbridge.repository.messages import ModelConfig

PLATFORM, BACKEND, ENSEMBLE = "onnxruntime_onnx", "onnxruntime", "ensemble"
#: What a request's queue holds when the configuration sets no limit; a queue without a limit only hides an overload.
MAX_QUEUE = 512
#: Levels of priority, and instances of a model, that a configuration may ask for.
MAX_LEVELS, MAX_INSTANCES = 1000, 256
#: Fields by which Triton feeds a model or chooses its file, and which would be left out here without a word.
_NOT_SERVED = ("batch_input", "batch_output", "cc_model_filenames")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,254}")


@dataclass(frozen=True)
class Signature:
    """What a model file takes and gives.

    Attributes:
        inputs: Name -> (datatype, sizes); a size that is free is a name, or -1.
        outputs: The same.
    """

    inputs: Mapping[str, tuple[str, tuple[int | str, ...]]]
    outputs: Mapping[str, tuple[str, tuple[int | str, ...]]]

    @classmethod
    def of(cls, found: Mapping[str, Sequence[Sequence[Any]]]) -> Signature:
        """The signature that a worker reports."""
        return cls(*({name: (kind, tuple(sizes)) for name, kind, sizes in found[k]} for k in ("inputs", "outputs")))


def is_name(name: str) -> bool:
    """Whether a model may be called so: it becomes a folder and a part of a URL."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def read(folder: Path) -> Any:
    """The ``ModelConfig`` of a repository entry; an empty one where it has no ``config.pbtxt``.

    Raises:
        FileError: When the file is no configuration.
    """
    path = folder / CONFIG_FILE
    if not path.is_symlink() and not path.exists():
        return ModelConfig(name=folder.name)
    content = read_text(path, folder.parent)
    try:
        config = text_format.Parse(content, ModelConfig())
    except (text_format.ParseError, ValueError, RecursionError) as error:
        raise FileError(f"not a model configuration: {error}", where=str(path)) from None
    if not config.name:
        config.name = folder.name
    _check_alone(config, folder.name, str(path))
    return config


def from_json(content: str, name: str) -> Any:
    """The configuration of an entry that comes as JSON, in the place of its file.

    Raises:
        FileError: When it is no configuration.
    """
    where = f"the configuration of '{name}'"
    try:
        config = json_format.Parse(content, ModelConfig(), max_recursion_depth=50)
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        raise FileError(f"not a model configuration: {error}", where=where) from None
    config.name = config.name or name
    _check_alone(config, name, where)
    return config


def text(config: Any) -> str:
    """A configuration as ``config.pbtxt`` holds it."""
    return text_format.MessageToString(config)


def to_json(config: Any) -> dict[str, Any]:
    """A configuration as JSON types, as the HTTP protocol shows it."""
    return json_format.MessageToDict(
        config, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def is_ensemble(config: Any) -> bool:
    return config.HasField("ensemble_scheduling")


def complete(config: Any, signature: Signature, where: str) -> Any:
    """A configuration with what it leaves out, taken from the model, and checked against it.

    Raises:
        FileError: When the two do not fit.
    """
    done = ModelConfig()
    done.CopyFrom(config)
    if not done.platform and not done.backend:
        done.platform = PLATFORM
    done.backend = done.backend or BACKEND
    done.default_model_filename = done.default_model_filename or MODEL_FILE
    if not done.HasField("version_policy"):
        done.version_policy.latest.num_versions = 1
    if not done.instance_group:
        done.instance_group.add(count=1, kind="KIND_CPU")
    for group in done.instance_group:
        group.name = group.name or f"{done.name}_{len(done.instance_group)}"
        group.count = group.count or 1
    is_batched = done.max_batch_size > 0
    for ports, found in ((done.input, signature.inputs), (done.output, signature.outputs)):
        if not ports:
            for name, (datatype, sizes) in found.items():
                dims = [_size(s) for s in sizes[1 if is_batched else 0 :]]
                port = ports.add(name=name, data_type=CONFIG_TYPES[datatype], dims=dims or [1])
                if not dims:
                    port.reshape.SetInParent()
        for port in ports:
            _check_port(port, found, is_batched, where)
    missing = [name for name in signature.inputs if name not in {p.name for p in done.input}]
    if missing:
        raise FileError(f"the model has an input '{missing[0]}' that the configuration does not name", where=where)
    return done


def _size(size: int | str) -> int:
    return size if isinstance(size, int) else -1


def _check_port(port: Any, found: Mapping[str, tuple[str, tuple[int | str, ...]]], batched: bool, where: str) -> None:
    if port.name not in found:
        raise FileError(f"the model has no '{port.name}'; it has {', '.join(found)}", where=where)
    datatype, sizes = found[port.name]
    if CONFIG_TYPES[datatype] != _type_name(port.data_type):
        what = f"'{port.name}' is {CONFIG_TYPES[datatype]} in the model, {_type_name(port.data_type)} here"
        raise FileError(what, where=where)
    dims = list(port.reshape.shape if port.HasField("reshape") else port.dims)
    expected = [_size(s) for s in sizes]
    if batched:
        if not expected or expected[0] != -1:
            what = f"max_batch_size is set, but the first size of '{port.name}' is not free: {list(sizes)}"
            raise FileError(what, where=where, hint="max_batch_size: 0 serves the model as it is")
        expected = expected[1:]
    fits = len(dims) == len(expected) and all(d == e or -1 in (d, e) for d, e in zip(dims, expected, strict=True))
    if not fits:
        raise FileError(f"'{port.name}' has the sizes {expected} in the model, {dims} here", where=where)


def _type_name(number: int) -> str:
    return _enum_name(ModelConfig.DESCRIPTOR.file.enum_types_by_name["DataType"], number)


def _enum_name(kinds: Any, number: int) -> str:
    """The name of a value of an enumeration; the number itself where it has none, which protobuf lets pass."""
    found = kinds.values_by_number.get(number)
    return str(number) if found is None else found.name


# --- what can be said of a configuration without its model ------------------------------------------------------------


def _check_alone(config: Any, folder: str, where: str) -> None:
    problems = [*_identity(config, folder), *_ports(config), *_scheduling(config), *_instances(config)]
    if problems:
        raise FileError("; ".join(problems), where=where)


def _identity(config: Any, folder: str) -> list[str]:
    problems = []
    if config.name != folder:
        problems.append(f"the model is called '{config.name}' here, but its folder is '{folder}'")
    ensemble = is_ensemble(config)
    if ensemble != (config.platform == ENSEMBLE):
        problems.append(f"platform '{ENSEMBLE}' and ensemble_scheduling belong together")
    elif not ensemble and config.platform not in ("", PLATFORM):
        problems.append(f"platform '{config.platform}' is not '{PLATFORM}', the one that is served here")
    if config.backend not in ("", BACKEND) and not ensemble:
        problems.append(f"backend '{config.backend}' is not '{BACKEND}', the one that is served here")
    if config.model_transaction_policy.decoupled:
        problems.append("decoupled models are not served here: a request has one answer")
    problems += [f"{field} is not served here" for field in _NOT_SERVED if len(getattr(config, field))]
    if config.model_operations.op_library_filename:
        problems.append("model_operations is not served here: libraries of operators are not loaded")
    if Path(config.default_model_filename).name != config.default_model_filename:
        problems.append(f"default_model_filename '{config.default_model_filename}' is no file name")
    return problems


def _ports(config: Any) -> list[str]:
    problems = []
    for kind, ports in (("input", config.input), ("output", config.output)):
        for name, count in Counter(p.name for p in ports).items():
            if count > 1:
                problems.append(f"{kind} '{name}' is there {count} times")
        for port in ports:
            label = f"{kind} '{port.name}'"
            if not port.name:
                problems.append(f"an {kind} has no name")
            if _type_name(port.data_type) not in DATATYPES:
                problems.append(f"{label} has no data_type")
            if not port.dims:
                problems.append(f"{label} has no dims")
            if any(d < 1 and d != -1 for d in port.dims):
                problems.append(f"{label} has the dims {list(port.dims)}: a size is at least 1, or -1 where it is free")
            if port.HasField("reshape") and not _same_count(port.dims, port.reshape.shape):
                problems.append(f"{label} cannot be reshaped from {list(port.dims)} to {list(port.reshape.shape)}")
    return problems


def _same_count(dims: Sequence[int], shape: Sequence[int]) -> bool:
    if -1 in dims or -1 in shape:
        return list(dims).count(-1) == list(shape).count(-1)
    counts = []
    for sizes in (dims, shape):
        count = 1
        for size in sizes:
            count *= size
        counts.append(count)
    return counts[0] == counts[1]


def _scheduling(config: Any) -> list[str]:
    problems = []
    if config.max_batch_size < 0:
        problems.append(f"max_batch_size is {config.max_batch_size}")
    if config.HasField("sequence_batching"):
        problems.append("sequence_batching is not served here")
    if not config.HasField("dynamic_batching"):
        return problems
    batching = config.dynamic_batching
    for size in batching.preferred_batch_size:
        if not 0 < size <= max(config.max_batch_size, 0):
            problems.append(f"preferred_batch_size {size} is not from 1 to max_batch_size")
    if batching.default_priority_level > batching.priority_levels:
        problems.append(f"default_priority_level {batching.default_priority_level} is above priority_levels")
    if batching.priority_levels and not batching.default_priority_level:
        problems.append("default_priority_level is to be set where priority_levels is")
    if batching.priority_levels > MAX_LEVELS:
        problems.append(f"priority_levels is {batching.priority_levels}; at most {MAX_LEVELS} are served here")
    for level in batching.priority_queue_policy:
        if not 0 < level <= batching.priority_levels:
            problems.append(f"priority_queue_policy has the level {level}, there are {batching.priority_levels}")
    return problems


def _instances(config: Any) -> list[str]:
    problems = []
    for group in config.instance_group:
        kind = _enum_name(type(group).DESCRIPTOR.enum_types_by_name["Kind"], group.kind)
        if not 0 <= group.count <= MAX_INSTANCES:
            problems.append(f"an instance_group has the count {group.count}, not one from 0 to {MAX_INSTANCES}")
        if kind not in ("KIND_AUTO", "KIND_CPU", "KIND_GPU"):
            problems.append(f"instance_group {kind} is not served here: KIND_CPU or KIND_GPU")
        if group.passive:
            problems.append("a passive instance_group is not served here")
        if kind == "KIND_CPU" and group.gpus:
            problems.append("an instance_group of KIND_CPU names gpus")
    return problems
