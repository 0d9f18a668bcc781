"""The Open Inference Protocol over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import grpc
import grpc.aio
import numpy as np

from dlbridge.errors import DlbridgeError
from dlbridge.repository import messages
from dlbridge.repository.datatypes import CONFIG_TYPES
from dlbridge.serving import metrics
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.requests import InferRequest, InferResponse, Wanted
from dlbridge.serving.service import Service
from dlbridge.serving.shared_memory import SharedMemory
from dlbridge.serving.tensors import Tensor, join_strings
from dlbridge.serving.traces import TRACE_PARENT

SERVICE = "GRPCInferenceService"
#: Datatype -> the field of ``InferTensorContents`` that holds its elements, and their numpy dtype.
_CONTENTS: dict[str, tuple[str, str]] = {
    "BOOL": ("bool_contents", "bool"),
    **{f"INT{bits}": ("int_contents", f"int{bits}") for bits in (8, 16, 32)},
    "INT64": ("int64_contents", "int64"),
    **{f"UINT{bits}": ("uint_contents", f"uint{bits}") for bits in (8, 16, 32)},
    "UINT64": ("uint64_contents", "uint64"),
    "FP32": ("fp32_contents", "float32"),
    "FP64": ("fp64_contents", "float64"),
}
#: Requests of one stream that are under way at once; their answers keep the order of the requests.
_STREAM_AHEAD = 64


class GrpcService:
    """The methods of ``GRPCInferenceService``.

    Args:
        service: What answers.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._is_ready = service.is_model_ready
        self._responses = {name: response for name, _, response, _ in messages.methods(SERVICE)}

    def handlers(self) -> Iterable[grpc.GenericRpcHandler]:
        """What a gRPC server is to be given."""
        yield grpc.method_handlers_generic_handler(f"inference.{SERVICE}", dict(self._handlers()))
        yield grpc.method_handlers_generic_handler("grpc.health.v1.Health", dict(self._health()))

    def _handlers(self) -> Iterable[tuple[str, grpc.RpcMethodHandler]]:
        answers: Mapping[str, Callable[[Any], Any]] = {
            "ServerLive": lambda r: {"live": True},
            "ServerReady": lambda r: {"ready": self._service.is_ready},
            "ServerMetadata": lambda r: self._service.metadata(),
            "ModelReady": lambda r: {"ready": self._is_ready(r.name, r.version)},
            "ModelMetadata": lambda r: self._service.model_metadata(r.name, r.version),
            "ModelConfig": lambda r: {"config": self._service.config(r.name, r.version)},
            "ModelStatistics": lambda r: {
                "model_stats": [metrics.to_json(v) for v in self._service.versions(r.name, r.version)]
            },
            "RepositoryIndex": lambda r: {"models": self._service.index(r.ready)},
            "SystemSharedMemoryStatus": lambda r: {
                "regions": {region.name: region.described() for region in self._service.memory.status(r.name)}
            },
            "SystemSharedMemoryRegister": self._register,
            "SystemSharedMemoryUnregister": self._unregister,
            "CudaSharedMemoryStatus": lambda r: {},
        }
        coroutines: Mapping[str, Callable[[Any], Any]] = {
            "RepositoryModelLoad": lambda r: self._service.load(r.model_name, r.parameters),
            "RepositoryModelUnload": lambda r: self._service.repository.unload(r.model_name),
        }
        for name, request, response, _ in messages.methods(SERVICE):
            if name == "ModelInfer":
                method: Any = self._infer
            elif name == "ModelStreamInfer":
                yield (
                    name,
                    grpc.stream_stream_rpc_method_handler(self._stream, request.FromString, response.SerializeToString),
                )
                continue
            elif name in answers:
                method = _answering(answers[name], response)
            elif name in coroutines:
                method = _doing(coroutines[name], response)
            else:
                method = _refusing
            yield name, grpc.unary_unary_rpc_method_handler(method, request.FromString, response.SerializeToString)

    def _register(self, message: Any) -> dict[str, Any]:
        self._service.memory.register(message.name, message.key, message.offset, message.byte_size)
        return {}

    def _unregister(self, message: Any) -> dict[str, Any]:
        self._service.memory.unregister(message.name)
        return {}

    def _health(self) -> Iterable[tuple[str, grpc.RpcMethodHandler]]:
        for name, request, response, _ in messages.methods("Health", "grpc.health.v1"):
            method = _answering(lambda r: {"status": 1 if self._service.is_ready else 2}, response)
            yield name, grpc.unary_unary_rpc_method_handler(method, request.FromString, response.SerializeToString)

    async def _infer(self, message: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await self._answer(message, context)
        except ServingError as error:
            return await _abort(context, error)

    async def _answer(self, message: Any, context: grpc.aio.ServicerContext) -> Any:
        """The response to a request for inference.

        Raises:
            ServingError: When there is none.
        """
        with self._service.observer.request("grpc", message.model_name, message.id, _trace_parent(context)) as observed:
            response = await self._service.infer(parse(message, self._service.memory))
            observed.answered(response)
            return render(response)

    async def _stream(self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        """Answer the requests of a stream in their order; a request that fails does not end it."""
        under_way: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue(_STREAM_AHEAD)

        async def take() -> None:
            async for message in requests:
                await under_way.put(asyncio.get_running_loop().create_task(self._streamed(message, context)))
            await under_way.put(None)

        taking = asyncio.get_running_loop().create_task(take())
        try:
            while (task := await under_way.get()) is not None:
                yield await task
        finally:
            taking.cancel()
            while not under_way.empty():
                task = under_way.get_nowait()
                if task is not None:
                    task.cancel()

    async def _streamed(self, message: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            response = await self._answer(message, context)
        except ServingError as error:
            failed = messages.ModelStreamInferResponse(error_message=str(error))
            failed.infer_response.id = message.id
            return failed
        return messages.ModelStreamInferResponse(infer_response=response)


def _trace_parent(context: grpc.aio.ServicerContext) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == TRACE_PARENT:
            return str(value)
    return ""


def _answering(answer: Callable[[Any], Any], response: Any) -> Callable[..., Any]:
    """A method that answers at once with the fields of its response."""

    async def method(message: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return response(**answer(message))
        except DlbridgeError as error:
            return await _abort(context, error)

    return method


def _doing(work: Callable[[Any], Any], response: Any) -> Callable[..., Any]:
    """A method that does something and has nothing to say."""

    async def method(message: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            await work(message)
        except DlbridgeError as error:
            return await _abort(context, error)
        return response()

    return method


async def _refusing(message: Any, context: grpc.aio.ServicerContext) -> Any:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server does not do that")


async def _abort(context: grpc.aio.ServicerContext, error: DlbridgeError) -> None:
    status = error.status if isinstance(error, ServingError) else Status.INVALID
    retry = error.retry_after if isinstance(error, ServingError) else None
    trailing = (("retry-after", str(max(1, round(retry)))),) if retry is not None else ()
    await context.abort(grpc.StatusCode[status.grpc], str(error), trailing)


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
    try:
        return np.array(getattr(entry.contents, field), dtype=dtype).tobytes()
    except OverflowError as error:
        raise ServingError(f"a number is out of the range of {entry.datatype}: {error}", where=where) from None


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
