"""The methods of ``grpc`` behind gRPC's own asyncio server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from dlbridge.errors import DlbridgeError
from dlbridge.repository import messages
from dlbridge.serving.grpc.methods import (
    OPEN_METHODS,
    STREAM_AHEAD,
    GrpcServer,
    Kind,
    Method,
    failed_in_stream,
    methods,
    parse,
    render,
    status_of,
)
from dlbridge.serving.problems import ServingError
from dlbridge.serving.service import Service
from dlbridge.serving.token import Token
from dlbridge.serving.traces import TRACE_PARENT


class AioServer(GrpcServer):
    """gRPC's own asyncio server."""

    def __init__(self, service: Service, max_body: int, token: str | None) -> None:
        super().__init__(service, max_body, token)
        options = [
            ("grpc.max_receive_message_length", max_body),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        interceptors: Sequence[Any] = [] if token is None else [_TokenCheck(token)]
        self._server = grpc.aio.server(options=options, interceptors=interceptors)
        services: dict[str, dict[str, Any]] = {}
        for path, handler in AioMethods(service).handlers().items():
            _, name, short = path.split("/")
            services.setdefault(name, {})[short] = handler
        self._server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(name, handlers) for name, handlers in services.items())
        )

    async def start(self, host: str, port: int, certificate: Path | None, key: Path | None) -> int:
        try:
            if certificate is not None and key is not None:
                pair = (key.read_bytes(), certificate.read_bytes())
                found = self._server.add_secure_port(f"{host}:{port}", grpc.ssl_server_credentials([pair]))
            else:
                found = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(str(error)) from None
        await self._server.start()
        return int(found)

    async def stop(self, seconds: float) -> None:
        await self._server.stop(seconds)


class AioMethods:
    """The methods as gRPC's asyncio servers take them.

    Args:
        service: What answers.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """Path -> handler."""
        return {path: self._handler(method) for path, method in methods(self._service).items()}

    def _handler(self, method: Method) -> grpc.RpcMethodHandler:
        by = method.response.SerializeToString
        if method.kind is Kind.STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream, method.request.FromString, by)

        async def unary(data: bytes, context: grpc.aio.ServicerContext) -> Any:
            try:
                message = method.read(data)
                if method.kind is Kind.INFER:
                    return await self._answer(message, context)
                return await method.answer(message)
            except DlbridgeError as error:
                return await _abort(context, error)

        return grpc.unary_unary_rpc_method_handler(unary, None, by)

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
        under_way: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue(STREAM_AHEAD)

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
            return failed_in_stream(message, error)
        return messages.ModelStreamInferResponse(infer_response=response)


def _trace_parent(context: grpc.aio.ServicerContext) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == TRACE_PARENT:
            return str(value)
    return ""


async def _abort(context: grpc.aio.ServicerContext, error: DlbridgeError) -> None:
    status, text, trailing = status_of(error)
    await context.abort(grpc.StatusCode[status.grpc], text, trailing)


class _TokenCheck(grpc.aio.ServerInterceptor):
    """Refuses calls without the token, but for those that ask whether the server lives."""

    def __init__(self, token: str) -> None:
        self._token = Token(token)

        async def refuse(message: Any, context: grpc.aio.ServicerContext) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the request has no valid token")

        self._refusal = grpc.unary_unary_rpc_method_handler(refuse)

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Hand on calls that may go on."""
        is_open = details.method.rpartition("/")[2] in OPEN_METHODS
        if is_open or self._token.is_carried(dict(details.invocation_metadata).get("authorization")):
            return await continuation(details)
        return self._refusal
