"""One call of gRPC: what comes on its stream of HTTP/2, what is done for it, and what goes back.

zttp would keep an answer that the client has no room for yet, and move all of it with each piece that goes. So a call
keeps its answers itself, and hands over what there is room for.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import zttp

from dlbridge.errors import DlbridgeError
from dlbridge.repository import messages
from dlbridge.serving.grpc.messages import Incoming, framed
from dlbridge.serving.grpc.methods import (
    OPEN_METHODS,
    STREAM_AHEAD,
    Kind,
    Method,
    failed_in_stream,
    parse,
    render,
    status_of,
)
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.requests import InferResponse
from dlbridge.serving.tensors import Buffer
from dlbridge.serving.traces import TRACE_PARENT

if TYPE_CHECKING:
    from dlbridge.serving.grpc.connection import Connection

LOG = logging.getLogger("dlbridge.serving")
_HEADERS = [(b"content-type", b"application/grpc")]
_GOOD = [(b"grpc-status", b"0")]
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TRACE_PARENT = TRACE_PARENT.encode()
#: Characters that stand for themselves in a ``grpc-message``.
_PLAIN = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
#: HTTP/2's number for a stream that nobody wants any more.
_CANCEL = 8
#: Withdraws what has been begun, for a reason.
Withdraw = Callable[[DlbridgeError], object]


class _Place:
    """Where the answer to a message of a stream goes, in the order in which the messages came."""

    __slots__ = ("response", "withdraw")

    def __init__(self) -> None:
        self.response: Any = None
        self.withdraw: Withdraw | None = None


class Call:
    """One call.

    Args:
        connection: Where it came.
        stream_id: Its stream.
        headers: Its headers.

    Attributes:
        is_over: Whether nothing more is done for it; what is due may still be on its way.
    """

    def __init__(self, connection: Connection, stream_id: int, headers: dict[bytes, bytes]) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.is_over = False
        self._headers = headers
        self._method: Method | None = None
        self._timer: asyncio.TimerHandle | None = None
        # what came
        self._incoming = Incoming(connection.server.max_body, headers.get(b"grpc-encoding", b""))
        self._is_whole = False
        self._is_taking = False
        # what is done
        self._withdraw: Withdraw | None = None
        self._places: deque[_Place] = deque()
        # what goes
        self._out: deque[Buffer] = deque()
        self._is_cut = False
        self._has_answered = False
        self._trailers: list[tuple[bytes, bytes]] | None = None

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
        is_allowed = name in OPEN_METHODS or server.token.is_carried(self._headers.get(b"authorization"))
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
        self._incoming.buffer += data
        if self._method is not None and self._method.kind is Kind.STREAM:
            self._take_messages()
        else:
            self._incoming.check_one()

    def received_all(self) -> None:
        """Answer: the client has nothing more to say.

        Raises:
            ServingError: When it has said too little, or too much.
        """
        self._is_whole = True
        assert self._method is not None
        if self._method.kind is Kind.STREAM:
            self._end_stream_if_done()
            return
        message = self._next_message()
        if message is None or self._incoming.buffer:
            raise ServingError("the call has not one whole message")
        if self._method.kind is Kind.INFER:
            self._withdraw = self._infer(message, self._answered)
        else:
            task = asyncio.get_running_loop().create_task(self._other(self._method, message))
            self._withdraw = lambda why: task.cancel()

    def _next_message(self) -> Any:
        """The next message that has come whole; None where there is none."""
        content = self._incoming.next()
        assert self._method is not None
        return None if content is None else self._method.read(content)

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
            self._answer(response.SerializeToString())

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
                self._answer(data)

    # --- streams --------------------------------------------------------------------------------------------------

    def _take_messages(self) -> None:
        """Begin with the messages of a stream that have come; at most so many are under way or not yet read."""
        if self._is_taking:
            return  # one of them has been answered at once
        self._is_taking = True
        try:
            while len(self._places) < STREAM_AHEAD and (message := self._next_message()) is not None:
                self._infer_in_stream(message)
        finally:
            self._is_taking = False
        if len(self._places) < STREAM_AHEAD:
            self.connection.release(self.stream_id)
        else:
            self.connection.hold(self.stream_id)

    def _infer_in_stream(self, message: Any) -> None:
        """Answer a message of a stream, in its turn; one that fails does not end the stream."""
        place = _Place()
        self._places.append(place)

        def answered(response: Any, error: ServingError | None) -> None:
            if error is not None:
                place.response = failed_in_stream(message, error)
            else:
                place.response = messages.ModelStreamInferResponse(infer_response=response)
            self.guarded(self._go_on)

        place.withdraw = self._infer(message, answered)

    def _go_on(self) -> None:
        """Send the answers of a stream that are there, up to the first that is not, and take further messages.

        Raises:
            ServingError: When a message is too large, or cannot be read.
        """
        while not self._out and self._places and self._places[0].response is not None:
            self._out.append(framed(self._places.popleft().response.SerializeToString()))
            self.push()
        self._take_messages()
        self._end_stream_if_done()

    def _end_stream_if_done(self) -> None:
        """End a stream whose messages have all been answered.

        Raises:
            ServingError: When its last message is cut off.
        """
        if not self._is_whole or self._places or self._out or self.is_over:
            return
        if self._incoming.buffer:
            raise ServingError("the last message is cut off")
        self._end(_GOOD)

    def end_if_idle(self, why: DlbridgeError) -> None:
        """End a stream on which nothing is under way."""
        is_stream = self._method is not None and self._method.kind is Kind.STREAM
        if is_stream and not self._places and not self._out and not self._incoming.buffer:
            self.fail(why)

    # --- what goes ------------------------------------------------------------------------------------------------

    def _answer(self, data: bytes) -> None:
        self._out.append(framed(data))
        self._end(_GOOD)

    def _end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """Send what is due, and that nothing follows."""
        self._trailers = trailers
        self._over()
        self.push()

    def has_room(self) -> None:
        """Go on: the client takes more."""
        if not self._out:
            return
        self.push()
        if not self._out:
            self.guarded(self._go_on)

    def push(self) -> None:
        """Send what the client takes now."""
        if self.connection.is_closing:
            return
        try:
            is_all = self._push(self.connection.http.stream(self.stream_id))
        except (zttp.LocalProtocolError, KeyError, ValueError):  # the client has ended the stream meanwhile
            is_all = True
            self._out.clear()
        self.connection.flush_soon()
        if is_all and self._trailers is not None:
            self._gone()

    def _push(self, stream: zttp.Stream) -> bool:
        """Hand over what there is room for, and the end when everything is; whether it is."""
        if not self._has_answered:
            self._has_answered = True
            if not self._out and self._trailers is not None:
                stream.send_response(200, _HEADERS + self._trailers, True)
                self._reset_if_unfinished(stream)
                return True
            stream.send_response(200, _HEADERS)
        out = self._out
        while out:
            room = min(stream.send_window or 0, self.connection.http.send_window)
            piece = out[0]
            if len(piece) > room:
                if room > 0:
                    view = memoryview(piece)
                    stream.send_data(view[:room])
                    out[0], self._is_cut = view[room:], True
                return False
            stream.send_data(piece)
            out.popleft()
            self._is_cut = False
        if self._trailers is not None:
            stream.end_message(self._trailers)
            self._reset_if_unfinished(stream)
        return True

    def _reset_if_unfinished(self, stream: zttp.Stream) -> None:
        if not self._is_whole:
            stream.reset(0)  # the client need not say the rest

    # --- its end --------------------------------------------------------------------------------------------------

    def fail(self, error: DlbridgeError) -> None:
        """End the call with an error."""
        if self.is_over:
            return
        self._withdraw_all(error)
        status, text, trailing = status_of(error)
        told = [(b"grpc-status", b"%d" % status.grpc_number), (b"grpc-message", quote(text, safe=_PLAIN).encode())]
        told += [(name.encode(), value.encode()) for name, value in trailing]
        while len(self._out) > self._is_cut:  # a message that has been begun is sent to its end
            self._out.pop()
        self._end(told)

    def _late(self) -> None:
        self._timer = None
        if self.is_over:  # the client has not read the answer
            self._out.clear()
            self.connection.reset(self.stream_id, _CANCEL)
            self._gone()
            return
        self.fail(ServingError("the deadline of the call is over", Status.LATE))

    def withdraw(self, why: DlbridgeError) -> None:
        """Let nobody wait for its answer: the client is gone."""
        self._withdraw_all(why)
        self._out.clear()
        self._over()
        self._gone()

    def _withdraw_all(self, why: DlbridgeError) -> None:
        for withdraw in (self._withdraw, *(place.withdraw for place in self._places)):
            if withdraw is not None:
                withdraw(why)

    def _over(self) -> None:
        self.is_over = True
        self._withdraw = None
        self._places.clear()
        self._incoming.buffer = bytearray()

    def _gone(self) -> None:
        """Everything is sent, or nobody takes it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.connection.ended(self)
