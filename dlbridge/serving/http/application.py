"""The Open Inference Protocol over HTTP: JSON, and the binary tensor extension."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from dlbridge.serving.clients import Receive, unless_gone
from dlbridge.serving.compression import ENCODINGS, decompressed, too_large
from dlbridge.serving.http.messages import body_of, error_of, model_of, parse
from dlbridge.serving.http.routes import application
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.service import Service
from dlbridge.serving.token import Token
from dlbridge.serving.traces import TRACE_PARENT

_TRACE_PARENT = TRACE_PARENT.encode()
#: The client's name of a request, which goes into the log and back to the client.
REQUEST_ID = b"x-request-id"
#: Paths that need no token: the page, which asks for it, and whether the server lives.
OPEN_PATHS = ("/", "/v2/health/live", "/v2/health/ready")

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class HttpApp:
    """The ASGI application: everything that :class:`dlbridge.serving.http.protocol.InferenceProtocol` leaves to it.

    Inference that comes in parts, compressed or pipelined is answered here, everything else by Starlette's routes.

    Args:
        service: What answers.
        max_body: Bytes that a request may have, and that it may have when it is decompressed.
        token: What requests must carry as ``Authorization: Bearer``; None for anybody.
    """

    def __init__(self, service: Service, max_body: int, token: str | None = None) -> None:
        self.service = service
        self.max_body = max_body
        self._token = Token(token)
        self._others = application(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._others(scope, receive, send)
            return
        path = scope["path"]
        headers = dict(scope["headers"])
        if not self.is_allowed(path, headers):
            await _send_error(send, ServingError("the request has no valid token", Status.UNAUTHENTICATED))
            return
        if scope["method"] == "POST" and path.endswith("/infer"):
            raw = scope["raw_path"].decode("ascii", "replace")
            await self._infer(raw, headers, receive, send)
            return
        await self._others(scope, self._bounded(receive), send)

    def is_allowed(self, path: str, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request has the token; whether the server lives, anybody may ask."""
        return path in OPEN_PATHS or self._token.is_carried(headers.get(b"authorization"))

    def _bounded(self, receive: Receive) -> Receive:
        """Receive a body, of as many bytes as one may have."""
        size = 0

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.max_body:
                raise too_large(self.max_body)
            return message

        return bounded

    async def _infer(self, path: str, headers: Mapping[bytes, bytes], receive: Receive, send: Send) -> None:
        id = headers.get(REQUEST_ID, b"").decode("latin-1")
        parent = headers.get(_TRACE_PARENT, b"").decode("latin-1")
        try:
            model, version = model_of(path)
            with self.service.observer.request("http", model, id, parent) as observed:
                self.service.check_room(model)  # what is refused in an overload costs as little as it can
                body = await self._body(headers, receive)
                memory = self.service.memory
                request, is_binary = parse(model, version, body, headers, memory)
                response = await unless_gone(self.service.infer(request), receive)
                content, whole = body_of(response, is_binary, headers.get(b"accept-encoding", b""))
                observed.answered(response)
        except ServingError as error:
            await _send_error(send, error)
            return
        if id:
            content.append((REQUEST_ID, id.encode("latin-1")))
        await send({"type": "http.response.start", "status": 200, "headers": content})
        await send({"type": "http.response.body", "body": whole})

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.max_body:
            raise too_large(self.max_body)
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body"):
            parts, size = [body], len(body)
            while message.get("more_body"):
                message = await receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > self.max_body:
                    raise too_large(self.max_body)
            body = b"".join(parts)
        encoding = headers.get(b"content-encoding", b"").lower()
        if encoding in (b"", b"identity"):
            return body
        if encoding.decode("latin-1") not in ENCODINGS:
            raise ServingError(f"content-encoding '{encoding.decode('latin-1')}' is not gzip or deflate")
        return decompressed(body, self.max_body)


async def _send_error(send: Send, error: ServingError) -> None:
    headers, body = error_of(error)
    await send({"type": "http.response.start", "status": error.status.http, "headers": headers})
    await send({"type": "http.response.body", "body": body})
