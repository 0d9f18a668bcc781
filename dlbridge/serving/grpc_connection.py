"""gRPC over HTTP/2 without gRPC's own server, which takes ten times as long for a request as what is done here.

zttp reads and writes the frames of HTTP/2 and keeps its rules; a call is a stream of one connection. What comes goes
from the frames to the queue in plain calls, and its answer back, as in ``http_protocol``.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import zttp

from dlbridge.errors import DlbridgeError
from dlbridge.repository import messages
from dlbridge.serving.compression import ENCODINGS, decompressed, too_large
from dlbridge.serving.grpc import (
    OPEN_METHODS,
    STREAM_AHEAD,
    Kind,
    Method,
    failed_in_stream,
    methods,
    parse,
    render,
    status_of,
)
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.requests import InferResponse
from dlbridge.serving.service import Service
from dlbridge.serving.traces import TRACE_PARENT

LOG = logging.getLogger("dlbridge.serving")
_HEADERS = [(b"content-type", b"application/grpc")]
_GOOD = [(b"grpc-status", b"0")]
_PREFIX = 5  #: Bytes before a message: whether it is compressed, and its size.
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
#: Calls of one connection that may be withdrawn before its client is asked to open another: at 256 zttp ends it.
_MAX_RESETS = 128
#: The highest number of a stream: a connection that names it is about to end, and still takes calls.
_ANY_STREAM = 2**31 - 1
#: Withdraws what has been begun, for a reason.
Withdraw = Callable[[DlbridgeError], object]
_TRACE_PARENT = TRACE_PARENT.encode()
#: Characters that stand for themselves in a ``grpc-message``.
_PLAIN = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


class WireServer:
    """The gRPC server.

    Args:
        service: What answers.
        max_body: Bytes that a message may have.
        token: What calls must carry; None for anybody.
    """

    def __init__(self, service: Service, max_body: int, token: str | None) -> None:
        self.service = service
        self.max_body = max_body
        self.authorization = None if token is None else f"Bearer {token}".encode()
        self.methods = {path.encode(): method for path, method in methods(service).items()}
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, certificate: Path | None, key: Path | None) -> int:
        """Listen, and return the port.

        Raises:
            OSError: When it cannot listen there.
        """
        context = None
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate, key)
            context.set_alpn_protocols(["h2"])
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), host, port, ssl=context, backlog=2048)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, seconds: float) -> None:
        """Take no more calls, and end when those that came are answered, or after so long."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.retire()
        end = time.monotonic() + seconds
        while self.connections and time.monotonic() < end:
            await asyncio.sleep(0.005)
        for connection in list(self.connections):
            connection.close()


class Connection(asyncio.Protocol):
    """One connection of a client, with the calls that are under way on it.

    Args:
        server: What it belongs to.
    """

    def __init__(self, server: WireServer) -> None:
        self.server = server
        self.http = zttp.Connection(zttp.SERVER, protocol=zttp.HTTP2)
        self.calls: dict[int, Call] = {}
        self._transport: Any = None
        self._resets = 0
        self._is_retiring = False
        self._is_flush_due = False
        self._reasons_to_wait = 0

    # --- asyncio.Protocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.server.connections.add(self)
        self.http.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        calls, self.calls = self.calls, {}
        for call in calls.values():
            call.withdraw(_gone())

    def data_received(self, data: bytes) -> None:
        try:
            self.http.receive_data(data)
            while (event := self.http.next_event()) is not zttp.NEED_DATA:
                self._take(event)
        except zttp.RemoteProtocolError as error:
            LOG.info("a client speaks no HTTP/2: %s", error)
            self._flush()
            self._transport.close()
            return
        self._flush()

    def pause_writing(self) -> None:
        self.wait()  # who does not read answers may not ask for more

    def resume_writing(self) -> None:
        self.go_on()

    # --- calls ----------------------------------------------------------------------------------------------------

    def _take(self, event: zttp.Event) -> None:
        if isinstance(event, zttp.Data):
            if (call := self.calls.get(event.stream_id)) is not None:
                call.guarded(call.received, event.data)
        elif isinstance(event, zttp.Request):
            self._begin(event)
        elif isinstance(event, zttp.EndOfMessage):
            if (call := self.calls.get(event.stream_id)) is not None:
                call.guarded(call.received_all)
        elif isinstance(event, zttp.RstStream):
            self._resets += 1
            if (call := self.calls.pop(event.stream_id, None)) is not None:
                call.withdraw(_gone())
            if self._resets >= _MAX_RESETS:
                self.retire()
            self._close_if_done()
        elif isinstance(event, zttp.GoAway):
            self.retire()

    def _begin(self, event: zttp.Request) -> None:
        call = Call(self, event.stream_id, dict(event.headers))
        self.calls[event.stream_id] = call
        call.guarded(call.begin, event.method, event.path)
        if event.end_stream and not call.is_over:
            call.guarded(call.received_all)

    def ended(self, call: Call) -> None:
        """Forget a call that is over."""
        self.calls.pop(call.stream_id, None)
        self._close_if_done()

    def send(self, send: Callable[[zttp.Stream], None], call: Call) -> None:
        """Send something on the stream of a call, unless its client has ended it meanwhile."""
        if self._transport.is_closing():
            return
        try:
            send(self.http.stream(call.stream_id))
        except (zttp.LocalProtocolError, KeyError, ValueError):
            return
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        data = self.http.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def wait(self) -> None:
        """Read nothing, until :meth:`go_on` has been called as often."""
        self._reasons_to_wait += 1
        if self._reasons_to_wait == 1 and not self._transport.is_closing():
            self._transport.pause_reading()

    def go_on(self) -> None:
        self._reasons_to_wait -= 1
        if self._reasons_to_wait == 0 and not self._transport.is_closing():
            self._transport.resume_reading()

    # --- its end --------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Ask the client to open another connection; this one ends when its calls are over."""
        if not self._is_retiring and not self._transport.is_closing():
            self._is_retiring = True
            self.http.close(0, _ANY_STREAM)  # calls that are on their way are taken
            self._flush()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._is_retiring and not self.calls:
            # calls that the client had sent before it heard of it come until then
            asyncio.get_running_loop().call_later(0.1, self._close_if_still_done)

    def _close_if_still_done(self) -> None:
        if not self.calls:
            self.close()

    def close(self) -> None:
        """End the connection."""
        if not self._transport.is_closing():
            self.http.close(0)
            self._flush()
            self._transport.close()


class _Place:
    """Where the answer to a message of a stream goes, in the order in which the messages came."""

    __slots__ = ("response", "withdraw")

    def __init__(self) -> None:
        self.response: Any = None
        self.withdraw: Withdraw | None = None


def _gone() -> ServingError:
    return ServingError("the client went away", Status.CANCELLED)


class Call:
    """One call.

    Args:
        connection: Where it came.
        stream_id: Its stream.
        headers: Its headers.
    """

    def __init__(self, connection: Connection, stream_id: int, headers: dict[bytes, bytes]) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.is_over = False
        self._headers = headers
        self._method: Method | None = None
        self._buffer = bytearray()
        self._is_whole = False
        self._has_answered = False
        self._timer: asyncio.TimerHandle | None = None
        self._withdraw: Withdraw | None = None
        self._places: deque[_Place] = deque()
        self._is_waiting = False

    def guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do something for the call; what goes wrong ends it with an error."""
        if self.is_over:
            return
        try:
            work(*arguments)
        except DlbridgeError as error:
            self.fail(error)
        except Exception:  # as gRPC has it: the log says what went wrong, the client that something did
            LOG.exception("a call could not be answered")
            self.fail(ServingError("the server could not answer", Status.INTERNAL))

    # --- what comes -----------------------------------------------------------------------------------------------

    def begin(self, verb: bytes, path: bytes) -> None:
        """Look at the headers.

        Raises:
            ServingError: When the call is not taken.
        """
        server = self.connection.server
        self._method = server.methods.get(path)
        name = path.rpartition(b"/")[2].decode("latin-1")
        if verb != b"POST" or not self._headers.get(b"content-type", b"").startswith(b"application/grpc"):
            raise ServingError("this is no call of gRPC", Status.UNIMPLEMENTED)
        if self._method is None:
            raise ServingError(f"there is no method '{path.decode('latin-1')}'", Status.UNIMPLEMENTED)
        is_allowed = server.authorization in (None, self._headers.get(b"authorization")) or name in OPEN_METHODS
        if not is_allowed:
            raise ServingError("the request has no valid token", Status.UNAUTHENTICATED)
        timeout = self._headers.get(b"grpc-timeout")
        if timeout is not None:
            found = _TIMEOUT.fullmatch(timeout)
            if found is None:
                raise ServingError("the grpc-timeout is no time")
            seconds = int(found[1]) * _SECONDS[found[2]]
            self._timer = asyncio.get_running_loop().call_later(seconds, self._late)

    def received(self, data: bytes) -> None:
        """Take a part of the messages.

        Raises:
            ServingError: When a message is too large, or cannot be read.
        """
        self._buffer += data
        if self._method is not None and self._method.kind is Kind.STREAM:
            while (message := self._next_message()) is not None:
                self._infer_in_stream(message)
        elif len(self._buffer) > self.connection.server.max_body + _PREFIX:
            raise too_large(self.connection.server.max_body)

    def received_all(self) -> None:
        """Answer: the client has nothing more to say.

        Raises:
            ServingError: When it has said too little, or too much.
        """
        self._is_whole = True
        assert self._method is not None
        if self._method.kind is Kind.STREAM:
            if self._buffer:
                raise ServingError("the last message is cut off")
            self._send_answers()
            return
        message = self._next_message()
        if message is None or self._buffer:
            raise ServingError("the call has not one whole message")
        if self._method.kind is Kind.INFER:
            self._withdraw = self._infer(message, self._answered)
        else:
            task = asyncio.get_running_loop().create_task(self._other(self._method, message))
            self._withdraw = lambda why: task.cancel()

    def _next_message(self) -> Any:
        """The next message that has come whole; None where there is none."""
        buffer = self._buffer
        if len(buffer) < _PREFIX:
            return None
        limit = self.connection.server.max_body
        end = _PREFIX + int.from_bytes(buffer[1:_PREFIX], "big")
        if end > limit + _PREFIX:
            raise too_large(limit)
        if len(buffer) < end:
            return None
        content = bytes(memoryview(buffer)[_PREFIX:end])
        if buffer[0]:
            encoding = self._headers.get(b"grpc-encoding", b"").decode("latin-1")
            if encoding not in ENCODINGS:
                raise ServingError(f"the compression '{encoding}' is not gzip or deflate", Status.UNIMPLEMENTED)
            content = decompressed(content, limit)
        del buffer[:end]
        assert self._method is not None
        return self._method.read(content)

    # --- what is done ---------------------------------------------------------------------------------------------

    def _infer(self, message: Any, answered: Callable[[Any, ServingError | None], None]) -> Withdraw:
        """Begin with an inference; ``answered`` gets its response, or its error. Returns what withdraws it."""
        service = self.connection.server.service
        parent = self._headers.get(_TRACE_PARENT, b"").decode("latin-1")
        observed = service.observer.request("grpc", message.model_name, message.id, parent)
        is_over = False

        def finish(found: InferResponse | ServingError) -> None:
            nonlocal is_over
            if is_over:
                return
            is_over = True
            if isinstance(found, ServingError):
                observed.ended(found)
                answered(None, found)
                return
            observed.answered(found)
            observed.ended(None)
            answered(render(found), None)

        def withdraw(why: DlbridgeError) -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                undo()
                observed.ended(why)

        try:
            undo = service.submit(parse(message, service.memory), finish)
        except ServingError as error:
            finish(error)
        return withdraw

    def _answered(self, response: Any, error: ServingError | None) -> None:
        if error is not None:
            self.fail(error)
        else:
            self._send_last(response.SerializeToString())

    async def _other(self, method: Method, message: Any) -> None:
        try:
            response = await method.answer(message)
            data = response.SerializeToString()
        except DlbridgeError as error:
            self.fail(error)
        except Exception:  # as in ``guarded``
            LOG.exception("a call could not be answered")
            self.fail(ServingError("the server could not answer", Status.INTERNAL))
        else:
            if not self.is_over:
                self._send_last(data)

    def _infer_in_stream(self, message: Any) -> None:
        """Answer a message of a stream, in its turn; one that fails does not end the stream."""
        place = _Place()
        self._places.append(place)

        def answered(response: Any, error: ServingError | None) -> None:
            if error is not None:
                place.response = failed_in_stream(message, error)
            else:
                place.response = messages.ModelStreamInferResponse(infer_response=response)
            self._send_answers()

        place.withdraw = self._infer(message, answered)
        if len(self._places) > STREAM_AHEAD and not self._is_waiting:
            self._is_waiting = True
            self.connection.wait()

    def _send_answers(self) -> None:
        """Send the answers of a stream that are there, up to the first that is not."""
        while self._places and self._places[0].response is not None:
            data = self._places.popleft().response.SerializeToString()
            self.connection.send(lambda stream, data=data: self._send_message(stream, data), self)  # type: ignore[misc]
        if self._is_waiting and len(self._places) <= STREAM_AHEAD:
            self._is_waiting = False
            self.connection.go_on()
        if self._is_whole and not self._places and not self.is_over:
            self._over()
            self.connection.send(self._send_end, self)
            self.connection.ended(self)

    # --- what goes ------------------------------------------------------------------------------------------------

    def _send_last(self, data: bytes) -> None:
        self._over()

        def send(stream: zttp.Stream) -> None:
            self._send_message(stream, data)
            stream.end_message(_GOOD)

        self.connection.send(send, self)
        self.connection.ended(self)

    def _send_message(self, stream: zttp.Stream, data: bytes) -> None:
        if not self._has_answered:
            self._has_answered = True
            stream.send_response(200, _HEADERS)
        stream.send_data(b"\0" + len(data).to_bytes(4, "big") + data)

    def _send_end(self, stream: zttp.Stream) -> None:
        if self._has_answered:
            stream.end_message(_GOOD)
        else:
            stream.send_response(200, _HEADERS + _GOOD, True)

    def fail(self, error: DlbridgeError) -> None:
        """End the call with an error."""
        if self.is_over:
            return
        self.withdraw(error)
        status, trailing = status_of(error)
        told = [
            (b"grpc-status", b"%d" % status.grpc_number),
            (b"grpc-message", quote(str(error), safe=_PLAIN).encode()),
        ]
        told += [(name.encode(), value.encode()) for name, value in trailing]

        def send(stream: zttp.Stream) -> None:
            if self._has_answered:
                stream.end_message(told)
            else:
                stream.send_response(200, _HEADERS + told, True)
            if not self._is_whole:
                stream.reset(0)  # the client need not say the rest

        self.connection.send(send, self)
        self.connection.ended(self)

    def _late(self) -> None:
        self._timer = None
        self.fail(ServingError("the deadline of the call is over", Status.LATE))

    def withdraw(self, why: DlbridgeError) -> None:
        """Let nobody wait for its answer."""
        for withdraw in (self._withdraw, *(place.withdraw for place in self._places)):
            if withdraw is not None:
                withdraw(why)
        self._over()

    def _over(self) -> None:
        self.is_over = True
        self._withdraw = None
        self._places.clear()
        self._buffer = bytearray()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_waiting:
            self._is_waiting = False
            self.connection.go_on()
