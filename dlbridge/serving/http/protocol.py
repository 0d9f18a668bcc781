"""The short way of a request for inference over HTTP: from uvicorn's parser to the queue, and back to the socket.

A request takes a task, an event and half a dozen messages by way of ASGI, which cost more than all that the server does
with it. What comes whole and asks for nothing special goes from the parser to the queue and its answer to the socket in
plain calls; everything else goes to the ASGI application.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from dlbridge.serving.http.application import REQUEST_ID, HttpApp
from dlbridge.serving.http.messages import body_of, error_of, model_of, parse
from dlbridge.serving.observer import UNOBSERVED
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.requests import InferResponse
from dlbridge.serving.traces import TRACE_PARENT

LOG = logging.getLogger("dlbridge.serving")
_TRACE_PARENT = TRACE_PARENT.encode()
#: Headers of requests that the application answers.
_SPECIAL = frozenset((b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"))
#: Bytes that the head of a request may have.
MAX_HEAD = 64 << 10
#: Seconds that a connection stays when the server ends: a request that was sent before its client knew is answered.
_LINGER_SECONDS = 0.2
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _Nobody:
    """In the place of the event that uvicorn sets for a task that waits: there is none."""

    def set(self) -> None:
        """Wake nobody."""


class Exchange:
    """One request and its answer; it has the attributes that uvicorn's protocol looks at in what it is at.

    Args:
        protocol: The connection.
        headers: The headers of the request.
        path: Its path.
    """

    message_event = _Nobody()

    def __init__(self, protocol: InferenceProtocol, headers: dict[bytes, bytes], path: str) -> None:
        self._protocol = protocol
        self._app = protocol.http_app
        self._headers = headers
        self._path = path
        self._id = headers.get(REQUEST_ID, b"")
        self._is_binary = False
        self._withdraw: Any = None
        self._observed = UNOBSERVED
        self.parts: list[bytes] = []
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True

    def begin(self) -> None:
        """Answer the request, which has come whole."""
        service = self._app.service
        headers = self._headers
        try:
            if not self._app.is_allowed(self._path, headers):
                raise ServingError("the request has no valid token", Status.UNAUTHENTICATED)
            model, version = model_of(self._path)
            self._observed = service.observer.request(
                "http", model, self._id.decode("latin-1"), headers.get(_TRACE_PARENT, b"").decode("latin-1")
            )
            service.check_room(model)  # what is refused in an overload costs as little as it can
            body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
            request, self._is_binary = parse(model, version, body, headers, service.memory)
            self._withdraw = service.submit(request, self._finish)
        except ServingError as error:
            self._fail(error)
        except Exception:  # as uvicorn has it: the log says what went wrong, the client that something did
            LOG.exception("a request could not be answered")
            self._fail(ServingError("the server could not answer", Status.INTERNAL))

    def withdraw(self) -> None:
        """Let nobody wait for the answer: the client is gone."""
        if self.response_complete:
            return
        self.disconnected = self.response_complete = True
        if self._withdraw is not None:
            self._withdraw()
        self.parts, self._withdraw = [], None
        self._observed.ended(ServingError("the client went away", Status.CANCELLED))

    def _finish(self, found: InferResponse | ServingError) -> None:
        if self.response_complete:
            return
        if isinstance(found, ServingError):
            self._fail(found)
            return
        try:
            headers, body = body_of(found, self._is_binary, self._headers.get(b"accept-encoding", b""))
        except ServingError as error:
            self._fail(error)
            return
        self._observed.answered(found)
        self._observed.ended(None)
        if self._id and _CONTROL.search(self._id) is None:
            headers.append((REQUEST_ID, self._id))
        self._send(200, headers, body)

    def _fail(self, error: ServingError) -> None:
        self._observed.ended(error)
        self._send(error.status.http, *error_of(error))

    def _send(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.response_complete = True
        self.parts, self._withdraw = [], None  # a connection that waits for its next request holds no tensors
        protocol = self._protocol
        if self.disconnected or protocol.transport.is_closing():
            return
        if not self.keep_alive:
            headers.append((b"connection", b"close"))
        head = b"".join([b"%b: %b\r\n" % header for header in headers])
        protocol.transport.writelines([STATUS_LINE[status], head, b"\r\n", body])
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()


class InferenceProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, but that plain requests for inference do not go through ASGI.

    Args:
        http_app: The application that answers everything else.
        given: What uvicorn gives its protocols.
    """

    def __init__(self, http_app: HttpApp, **given: Any) -> None:
        super().__init__(**given)
        self.http_app = http_app
        self._exchange: Exchange | None = None
        self._is_reading = False
        self._is_in_head = False
        self._head_size = 0
        self._is_ending = False

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self.transport.write(_TOO_LARGE)
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._is_in_head = True
        self._head_size = 0

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._is_reading = self._begins_exchange()
        if not self._is_reading:
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()  # makes the scope of ASGI, which a request on the short way does without
            self.url, self.headers, self.expect_100_continue = url, headers, expects
            self.scope["headers"] = headers
            super().on_headers_complete()
        if self._is_ending:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if self._is_reading and self._exchange is not None:
            self._exchange.parts.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_reading and self._exchange is not None:
            self._is_reading = False
            self._exchange.begin()
        else:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._exchange is not None:
            self._exchange.withdraw()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End the connection: after the request that it is at, or the one that may be on its way."""
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
            return
        self._is_ending = True
        self.loop.call_later(_LINGER_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if (self.cycle is None or self.cycle.response_complete) and not self._is_in_head and not self._is_reading:
            self.transport.close()
        else:
            self.loop.call_later(_LINGER_SECONDS, self._close_if_idle)

    def _begins_exchange(self) -> bool:
        """Whether a request, whose headers are there, goes the short way; if so, an exchange begins."""
        url = self.url
        is_inference = (
            url.startswith(b"/v2/models/") and url.endswith(b"/infer") and self.parser.get_method() == b"POST"
        )
        is_free = self.cycle is None or self.cycle.response_complete
        if not is_inference or not is_free or self.flow.write_paused:
            return False
        headers = dict(self.headers)
        if self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive():
            return False
        length = headers.get(b"content-length", b"")
        fits = length.isdigit() and len(length) < 20 and int(length) <= self.http_app.max_body
        if not fits or not _SPECIAL.isdisjoint(headers):
            return False
        self._exchange = Exchange(self, headers, url.decode("ascii", "replace"))
        self.cycle = self._exchange  # type: ignore[assignment]
        return True
