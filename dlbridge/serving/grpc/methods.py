"""The Open Inference Protocol over gRPC: its methods, and its messages; what carries them is another module's business.

``grpc_connection`` carries them over HTTP/2 by itself, ``grpc_aio`` by gRPC's own server.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from dlbridge.errors import DlbridgeError
from dlbridge.repository import messages
from dlbridge.repository.datatypes import CONFIG_TYPES
from dlbridge.serving import metrics
from dlbridge.serving.http.messages import retry_headers
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.requests import InferRequest, InferResponse, Wanted
from dlbridge.serving.service import Service
from dlbridge.serving.shared_memory import SharedMemory
from dlbridge.serving.tensors import Tensor, in_range, join_strings
from dlbridge.serving.token import Token

SERVICE = "GRPCInferenceService"
#: Datatype -> the field of ``InferTensorContents`` that holds its elements, and the numpy dtype of that field.
_CONTENTS: dict[str, tuple[str, str]] = {
    "BOOL": ("bool_contents", "bool"),
    **{f"INT{bits}": ("int_contents", "int32") for bits in (8, 16, 32)},
    "INT64": ("int64_contents", "int64"),
    **{f"UINT{bits}": ("uint_contents", "uint32") for bits in (8, 16, 32)},
    "UINT64": ("uint64_contents", "uint64"),
    "FP32": ("fp32_contents", "float32"),
    "FP64": ("fp64_contents", "float64"),
}
#: Requests of one stream that are under way at once; their answers keep the order of the requests.
STREAM_AHEAD = 64
#: Characters of an error's message: percent-encoded they are at most three times as many bytes.
_MAX_MESSAGE = 2000
#: Methods that need no token: they ask whether the server lives.
OPEN_METHODS = ("ServerLive", "ServerReady", "Check")


class GrpcServer(ABC):
    """What carries the methods over a network.

    Args:
        service: What answers.
        max_body: Bytes that a message may have.
        token: What calls must carry; None for anybody.
    """

    def __init__(self, service: Service, max_body: int, token: str | None) -> None:
        self.service = service
        self.max_body = max_body
        self.token = Token(token)

    @abstractmethod
    async def start(self, host: str, port: int, certificate: Path | None, key: Path | None) -> int:
        """Listen, and return the port.

        Raises:
            OSError: When it cannot listen there.
        """

    @abstractmethod
    async def stop(self, seconds: float) -> None:
        """Take no more calls, and end when those that came are answered, or after so long."""


class Kind(Enum):
    """What a method does: inference, inference on each message of a stream, or something else."""

    INFER = 1
    STREAM = 2
    OTHER = 3


@dataclass(frozen=True)
class Method:
    """A method of a service.

    Attributes:
        kind: What it does.
        request: The class of its request.
        response: The class of its response.
        work: For what is no inference: request -> the fields of the response (None for none), or an awaitable of them;
            None for what this server does not do.
    """

    kind: Kind
    request: Any
    response: Any
    work: Callable[[Any], Any] | None = None

    def read(self, data: bytes) -> Any:
        """The request whose bytes came.

        Raises:
            ServingError: When they are none.
        """
        try:
            return self.request.FromString(data)
        except DecodeError as error:
            raise ServingError(f"the message cannot be read: {error}") from None

    async def answer(self, message: Any) -> Any:
        """The response to a request that is no inference.

        Raises:
            DlbridgeError: When there is none.
        """
        if self.work is None:
            raise ServingError("this server does not do that", Status.UNIMPLEMENTED)
        found = self.work(message)
        if inspect.isawaitable(found):
            found = await found
        return self.response(**(found or {}))


def methods(service: Service) -> dict[str, Method]:
    """Path -> method, of all that this server does."""
    work: Mapping[str, Callable[[Any], Any]] = {
        "ServerLive": lambda r: {"live": True},
        "ServerReady": lambda r: {"ready": service.is_ready},
        "ServerMetadata": lambda r: service.metadata(),
        "ModelReady": lambda r: {"ready": _is_ready(service, r)},
        "ModelMetadata": lambda r: service.model_metadata(r.name, r.version),
        "ModelConfig": lambda r: {"config": service.config(r.name, r.version)},
        "ModelStatistics": lambda r: {"model_stats": [metrics.to_json(v) for v in service.versions(r.name, r.version)]},
        "RepositoryIndex": lambda r: {"models": service.index(r.ready)},
        "RepositoryModelLoad": lambda r: service.load(r.model_name, _values(r.parameters)),
        "RepositoryModelUnload": lambda r: service.unload(r.model_name, _values(r.parameters)),
        "SystemSharedMemoryStatus": lambda r: {
            "regions": {region.name: region.described() for region in service.memory.status(r.name)}
        },
        "SystemSharedMemoryRegister": lambda r: service.memory.register(r.name, r.key, r.offset, r.byte_size),
        "SystemSharedMemoryUnregister": lambda r: service.memory.unregister(r.name),
        "CudaSharedMemoryStatus": lambda r: {},
        "CudaSharedMemoryUnregister": lambda r: {},  # there is none
    }
    found = {
        path: Method(kind, request, response, work.get(path.rpartition("/")[2]))
        for path, kind, request, response in _all_methods()
    }
    for path, request, response in _health_methods():
        found[path] = Method(Kind.OTHER, request, response, lambda r: _health(service, r.service))
    return found


def paths() -> dict[str, Kind]:
    """The path of each method, and what it does."""
    ours = {path: kind for path, kind, _, _ in _all_methods()}
    return ours | {path: Kind.OTHER for path, _, _ in _health_methods()}


def _health(service: Service, name: str) -> dict[str, int]:
    """The health of the server, which is that of its service.

    Raises:
        ServingError: When it has no service of that name.
    """
    if name not in ("", f"inference.{SERVICE}"):
        raise ServingError(f"there is no service '{name}'", Status.NOT_FOUND)
    return {"status": 1 if service.is_ready else 2}


def _is_ready(service: Service, message: Any) -> bool:
    """Whether a model takes requests now.

    Raises:
        ServingError: When there is no such model.
    """
    try:
        return service.is_model_ready(message.name, message.version)
    except ServingError as error:
        if error.status is Status.UNAVAILABLE:
            return False
        raise


def _all_methods() -> Iterator[tuple[str, Kind, Any, Any]]:
    kinds = {"ModelInfer": Kind.INFER, "ModelStreamInfer": Kind.STREAM}
    for name, request, response, _ in messages.methods(SERVICE):
        yield f"/inference.{SERVICE}/{name}", kinds.get(name, Kind.OTHER), request, response


def _health_methods() -> Iterator[tuple[str, Any, Any]]:
    for name, request, response, _ in messages.methods("Health", "grpc.health.v1"):
        yield f"/grpc.health.v1.Health/{name}", request, response


def failed_in_stream(message: Any, error: DlbridgeError) -> Any:
    """What a stream answers to a message that fails."""
    failed = messages.ModelStreamInferResponse(error_message=str(error))
    failed.infer_response.id = message.id
    return failed


def status_of(error: DlbridgeError) -> tuple[Status, str, tuple[tuple[str, str], ...]]:
    """The status of a request that fails, its message, and the metadata behind it.

    A long message is cut: clients refuse metadata of more than 8 KiB, and would show that instead of the error.
    """
    text = str(error)
    if len(text) > _MAX_MESSAGE:
        text = f"{text[:_MAX_MESSAGE]} ..."
    if not isinstance(error, ServingError):
        return Status.INVALID, text, ()
    return error.status, text, tuple((name.lower(), value) for name, value in retry_headers(error).items())


# --- requests and answers --------------------------------------------------------------------------------------------


def parse(message: Any, memory: SharedMemory) -> InferRequest:
    """A request for inference.

    Raises:
        ServingError: When its tensors are not whole.
    """
    inputs: dict[str, Tensor] = {}
    raw = message.raw_input_contents
    sent = [e for e in message.inputs if "shared_memory_region" not in e.parameters]
    if raw and len(raw) != len(sent):
        raise ServingError(f"{len(sent)} inputs came with {len(raw)} raw contents")
    contents = iter(raw)
    for entry in message.inputs:
        where = f"input '{entry.name}'"
        if entry.name in inputs:
            raise ServingError("it is there twice", where=where)
        if entry.datatype not in CONFIG_TYPES:
            raise ServingError(f"'{entry.datatype}' is no datatype", where=where)
        shape = tuple(entry.shape)
        if any(size < 0 for size in shape):
            raise ServingError(f"{list(shape)} is no shape", where=where)
        shared = memory.place(_values(entry.parameters), where) if entry.parameters else None
        if shared is not None:
            data: Any = shared.read()
        elif raw:
            if entry.HasField("contents"):
                raise ServingError("it has contents beside raw contents", where=where)
            data = next(contents, b"")
        else:
            data = _contents(entry, where)
        inputs[entry.name] = Tensor(entry.datatype, shape, data)
    outputs = {}
    for entry in message.outputs:
        place = memory.place(_values(entry.parameters), f"output '{entry.name}'") if entry.parameters else None
        outputs[entry.name] = Wanted(_number(entry.parameters, "classification"), place)
    return InferRequest(
        message.model_name,
        inputs,
        message.model_version,
        message.id,
        outputs or None,
        _number(message.parameters, "priority"),
        _number(message.parameters, "timeout"),
    )


def _contents(entry: Any, where: str) -> bytes:
    if entry.datatype == "BYTES":
        return join_strings(entry.contents.bytes_contents)
    if entry.datatype not in _CONTENTS:
        raise ServingError(f"{entry.datatype} is given as raw contents alone", where=where)
    field, dtype = _CONTENTS[entry.datatype]
    other = next((found.name for found, _ in entry.contents.ListFields() if found.name != field), None)
    if other is not None:
        raise ServingError(f"its elements are in {other}, those of {entry.datatype} go into {field}", where=where)
    return in_range(np.array(getattr(entry.contents, field), dtype), entry.datatype, where).tobytes()


def _values(parameters: Any) -> dict[str, Any]:
    """Parameters as Python values."""
    return {name: getattr(p, p.WhichOneof("parameter_choice") or "bool_param") for name, p in parameters.items()}


def _number(parameters: Any, name: str) -> int:
    """A parameter that is a number from 0; 0 where it is not given."""
    if name not in parameters:
        return 0
    parameter = parameters[name]
    choice = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, choice) if choice in ("int64_param", "uint64_param") else -1
    if value < 0:
        raise ServingError(f"the parameter '{name}' is no number from 0")
    return int(value)


def render(response: InferResponse) -> Any:
    """The message of an answer."""
    message = messages.ModelInferResponse(model_name=response.model, model_version=response.version, id=response.id)
    for name, tensor in response.outputs:
        output = message.outputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
        if name not in response.places:
            message.raw_output_contents.append(bytes(tensor.data))
            continue
        for key, value in response.places[name][0].described(response.places[name][1]).items():
            field = "string_param" if isinstance(value, str) else "int64_param"
            setattr(output.parameters[key], field, value)
    return message
