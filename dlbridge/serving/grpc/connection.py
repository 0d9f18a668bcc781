"""gRPC over HTTP/2 without gRPC's own server, which takes ten times as long for a request as what is done here.

zttp reads and writes the frames of HTTP/2 and keeps its rules; a call (``grpc_call``) is a stream of one connection.
What comes goes from the frames to the queue in plain calls, and its answer back, as in ``http_protocol``.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from pathlib import Path
from typing import Any

import zttp

from dlbridge.serving.grpc.call import Call
from dlbridge.serving.grpc.methods import GrpcServer, methods
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.service import Service

LOG = logging.getLogger("dlbridge.serving")
#: Calls of one connection that may be withdrawn before its client is asked to open another: at 256 zttp ends it.
_MAX_RESETS = 128
#: The highest number of a stream: a connection that names it is about to end, and still takes calls.
_ANY_STREAM = 2**31 - 1
#: Seconds in which what a client had sent before it heard of the end comes.
_ON_THE_WAY = 0.1
#: HTTP/2's number for a frame that gives a stream more room, and the bytes before what a frame holds.
_WINDOW_UPDATE, _FRAME_HEAD = 8, 9


class WireServer(GrpcServer):
    """The gRPC server over frames of HTTP/2."""

    def __init__(self, service: Service, max_body: int, token: str | None) -> None:
        super().__init__(service, max_body, token)
        self.methods = {path.encode(): method for path, method in methods(service).items()}
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, certificate: Path | None, key: Path | None) -> int:
        context = None
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate, key)
            context.set_alpn_protocols(["h2"])
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), host, port, ssl=context, backlog=2048)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, seconds: float) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.retire()
        begun = time.monotonic()
        while self.connections and time.monotonic() < begun + seconds:
            await asyncio.sleep(0.005)
            if time.monotonic() > begun + _ON_THE_WAY:
                for connection in list(self.connections):
                    connection.end_idle_streams()
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
        self._held: dict[int, list[bytes]] = {}

    # --- asyncio.Protocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.server.connections.add(self)
        self.http.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        for call in list(self.calls.values()):
            call.withdraw(_gone())

    def data_received(self, data: bytes) -> None:
        try:
            self.http.receive_data(data)
            while (event := self.http.next_event()) is not zttp.NEED_DATA:
                self._take(event)
        except zttp.RemoteProtocolError as error:
            LOG.info("a client does not keep to HTTP/2, its connection is closed: %s", error)
            self._flush()
            self._transport.close()
            return
        self._flush()

    def pause_writing(self) -> None:
        if not self.is_closing:
            self._transport.pause_reading()  # who does not read answers may not ask for more

    def resume_writing(self) -> None:
        if not self.is_closing:
            self._transport.resume_reading()

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
        elif isinstance(event, zttp.WindowUpdate):
            self._has_room(event.stream_id)
        elif isinstance(event, zttp.Settings):
            self._has_room(0)
        elif isinstance(event, zttp.RstStream):
            self._resets += 1
            if (call := self.calls.get(event.stream_id)) is not None:
                call.withdraw(_gone())
            if self._resets >= _MAX_RESETS:
                self.retire()
        elif isinstance(event, zttp.GoAway):
            self.retire()

    def _begin(self, event: zttp.Request) -> None:
        call = Call(self, event.stream_id, dict(event.headers))
        self.calls[event.stream_id] = call
        call.guarded(call.begin, event.method, event.path)
        if event.end_stream and not call.is_over:
            call.guarded(call.received_all)

    def _has_room(self, stream_id: int) -> None:
        """The client takes more: of one stream, or of the connection (0)."""
        if stream_id:
            if (call := self.calls.get(stream_id)) is not None:
                call.has_room()
            return
        for call in list(self.calls.values()):
            call.has_room()

    def ended(self, call: Call) -> None:
        """Forget a call that is over."""
        self.calls.pop(call.stream_id, None)
        self._held.pop(call.stream_id, None)
        self._close_if_done()

    def reset(self, stream_id: int, code: int) -> None:
        """Tell the client that nothing more comes on a stream."""
        try:
            self.http.stream(stream_id).reset(code)
        except (zttp.LocalProtocolError, KeyError, ValueError):  # it knows
            return
        self.flush_soon()

    # --- room for what a stream brings --------------------------------------------------------------------------------

    def hold(self, stream_id: int) -> None:
        """Give a stream no more room than it has: its client waits, those of other streams do not."""
        self._held.setdefault(stream_id, [])

    def release(self, stream_id: int) -> None:
        """Give a stream the room that has been held."""
        frames = self._held.pop(stream_id, None)
        if frames and not self.is_closing:
            self._transport.write(b"".join(frames))

    def _without_held(self, data: bytes) -> bytes:
        """What goes to the client, without the room for streams that are held."""
        kept, start = [], 0
        while start < len(data):
            end = start + _FRAME_HEAD + int.from_bytes(data[start : start + 3], "big")
            frame = data[start:end]
            held = self._held.get(int.from_bytes(frame[5:_FRAME_HEAD], "big") & _ANY_STREAM)
            if frame[3] == _WINDOW_UPDATE and held is not None:
                held.append(frame)
            else:
                kept.append(frame)
            start = end
        return b"".join(kept)

    # --- what goes ------------------------------------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        return bool(self._transport.is_closing())

    def flush_soon(self) -> None:
        """Send what zttp has for the client, when the loop comes to it."""
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        data = self.http.data_to_send()
        if self._held:
            data = self._without_held(data)
        if data and not self.is_closing:
            self._transport.write(data)

    # --- its end --------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Ask the client to open another connection; this one ends when its calls are over."""
        if not self._is_retiring and not self.is_closing:
            self._is_retiring = True
            self.http.close(0, _ANY_STREAM)  # calls that are on their way are taken
            self._flush()
        self._close_if_done()

    def end_idle_streams(self) -> None:
        """End streams on which nothing is under way, which their clients may never end."""
        why = ServingError("the server is ending", Status.UNAVAILABLE, retry_after=1.0)
        for call in list(self.calls.values()):
            call.end_if_idle(why)

    def _close_if_done(self) -> None:
        if self._is_retiring and not self.calls:
            asyncio.get_running_loop().call_later(_ON_THE_WAY, self._close_if_still_done)

    def _close_if_still_done(self) -> None:
        if not self.calls:
            self.close()

    def close(self) -> None:
        """End the connection."""
        if not self.is_closing:
            self.http.close(0)
            self._flush()
            self._transport.close()


def _gone() -> ServingError:
    return ServingError("the client went away", Status.CANCELLED)
