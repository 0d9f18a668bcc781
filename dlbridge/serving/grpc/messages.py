"""Messages of gRPC on the wire: five bytes say whether one is compressed and how long it is, and it follows."""

from __future__ import annotations

from dlbridge.serving.compression import ENCODINGS, decompressed, too_large
from dlbridge.serving.problems import ServingError, Status

#: Bytes before a message.
_PREFIX = 5


class Incoming:
    """The messages of a call, of bytes that come in any pieces.

    Args:
        limit: Bytes that a message may have.
        encoding: How messages are compressed that say that they are.

    Attributes:
        buffer: What has come and is not taken yet.
    """

    __slots__ = ("_encoding", "_limit", "buffer")

    def __init__(self, limit: int, encoding: bytes) -> None:
        self.buffer = bytearray()
        self._limit, self._encoding = limit, encoding

    def check_one(self) -> None:
        """Check that what has come may be one message.

        Raises:
            ServingError: When it is longer than one may be.
        """
        if len(self.buffer) > self._limit + _PREFIX:
            raise too_large(self._limit)

    def next(self) -> bytes | None:
        """Take the next message that has come whole; None where there is none.

        Raises:
            ServingError: When it is longer than one may be, or is compressed in a way that is not known.
        """
        buffer, limit = self.buffer, self._limit
        if len(buffer) < _PREFIX:
            return None
        end = _PREFIX + int.from_bytes(buffer[1:_PREFIX], "big")
        if end > limit + _PREFIX:
            raise too_large(limit)
        if len(buffer) < end:
            return None
        with memoryview(buffer) as view:
            content = bytes(view[_PREFIX:end])
        if buffer[0]:
            encoding = self._encoding.decode("latin-1")
            if encoding not in ENCODINGS:
                raise ServingError(f"the compression '{encoding}' is not gzip or deflate", Status.UNIMPLEMENTED)
            content = decompressed(content, limit)
        del buffer[:end]
        return content


def framed(data: bytes) -> bytes:
    """A message as it goes over the wire."""
    return b"\0" + len(data).to_bytes(4, "big") + data
