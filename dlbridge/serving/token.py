"""The token that requests must carry, where the server asks for one."""

from __future__ import annotations

import hmac


class Token:
    """What requests carry in their header ``authorization``: ``Bearer``, and the token.

    Args:
        token: The token; None where anybody may ask.
    """

    __slots__ = ("_header",)

    def __init__(self, token: str | None) -> None:
        self._header = None if token is None else f"Bearer {token}".encode()

    def is_carried(self, authorization: str | bytes | None) -> bool:
        """Whether a request may go on. The comparison takes as long for every guess, so that its time tells nothing."""
        if self._header is None:
            return True
        given = authorization.encode() if isinstance(authorization, str) else authorization or b""
        return hmac.compare_digest(given, self._header)
