"""Decompresses the bodies of requests."""

from __future__ import annotations

import zlib

from dlbridge.serving.problems import ServingError, Status

ENCODINGS = ("gzip", "deflate")


def decompressed(body: bytes, limit: int) -> bytes:
    """What a body of gzip or zlib holds.

    Args:
        body: The body.
        limit: Bytes that it may hold.

    Raises:
        ServingError: When it is no such body, is cut off, or holds more.
    """
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by its first bytes
    try:
        found = reader.decompress(body, limit + 1)
    except zlib.error as error:
        raise ServingError(f"the body cannot be decompressed: {error}") from None
    if len(found) > limit:
        raise too_large(limit)
    if not reader.eof:
        raise ServingError("the compressed body is cut off")
    return found


def too_large(limit: int) -> ServingError:
    """The error of a request that has more bytes than it may."""
    return ServingError(f"a request may have {limit} bytes", Status.TOO_LARGE)
