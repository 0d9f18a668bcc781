"""What the server and a worker say to each other over a socket: frames of a JSON header and bytes.

A tensor in a frame is ``[name, datatype, shape, size]`` in the header; the bytes of all tensors follow in that order.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import orjson

from dlbridge.serving.tensors import Buffer, Tensor

_SIZES = struct.Struct("<IQ")
Named = tuple[str, Tensor]


def encode(header: Any, payload: Sequence[Buffer] = ()) -> list[Buffer]:
    """A frame, in pieces that are to be sent one after the other."""
    text = orjson.dumps(header)
    return [_SIZES.pack(len(text), sum(map(len, payload))) + text, *payload]


def described(tensors: Sequence[Named]) -> list[list[Any]]:
    """What a header says of tensors."""
    return [[name, t.datatype, t.shape, len(t.data)] for name, t in tensors]


def tensors(entries: Sequence[Sequence[Any]], payload: memoryview) -> Iterator[Named]:
    """The tensors that a header describes, over the bytes of the payload."""
    start = 0
    for name, datatype, shape, size in entries:
        yield name, Tensor(datatype, tuple(shape), payload[start : start + size])
        start += size


class Decoder:
    """Takes bytes as they come and gives whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: Buffer) -> Iterator[tuple[Any, memoryview]]:
        """(header, payload) of each frame that is whole now."""
        self._buffer += data
        place = 0
        while len(self._buffer) - place >= _SIZES.size:
            header_size, payload_size = _SIZES.unpack_from(self._buffer, place)
            begin = place + _SIZES.size + header_size
            end = begin + payload_size
            if len(self._buffer) < end:
                break
            header = orjson.loads(self._buffer[place + _SIZES.size : begin])
            with memoryview(self._buffer) as view:  # released before the buffer shrinks
                payload = bytes(view[begin:end])
            yield header, memoryview(payload)
            place = end
        if place:
            del self._buffer[:place]


def receive(stream: BinaryIO) -> tuple[Any, memoryview] | None:
    """The next frame of a buffered stream; None when the other side has closed it."""
    start = stream.read(_SIZES.size)
    if len(start) < _SIZES.size:
        return None
    header_size, payload_size = _SIZES.unpack(start)
    header, payload = stream.read(header_size), stream.read(payload_size)
    if len(header) < header_size or len(payload) < payload_size:
        return None
    return orjson.loads(header), memoryview(payload)


def send(connection: socket.socket, header: Any, payload: Sequence[Buffer] = ()) -> None:
    """Send a frame over a blocking socket."""
    pieces = encode(header, payload)
    if sum(map(len, pieces)) <= 1 << 16:
        connection.sendall(b"".join(pieces))
        return
    for piece in pieces:
        connection.sendall(piece)
