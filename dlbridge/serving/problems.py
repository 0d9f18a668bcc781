"""What a server answers when it cannot answer: one error with a status that HTTP and gRPC both have a number for."""

from __future__ import annotations

from enum import Enum

from dlbridge.errors import DlbridgeError


class Status(Enum):
    """Why a request fails: (HTTP status, name of the gRPC status)."""

    INVALID = (400, "INVALID_ARGUMENT")
    UNAUTHENTICATED = (401, "UNAUTHENTICATED")
    NOT_FOUND = (404, "NOT_FOUND")
    TOO_LARGE = (413, "RESOURCE_EXHAUSTED")
    TOO_MANY = (429, "RESOURCE_EXHAUSTED")
    CANCELLED = (499, "CANCELLED")
    INTERNAL = (500, "INTERNAL")
    UNIMPLEMENTED = (501, "UNIMPLEMENTED")
    UNAVAILABLE = (503, "UNAVAILABLE")
    LATE = (504, "DEADLINE_EXCEEDED")

    @property
    def http(self) -> int:
        return self.value[0]

    @property
    def grpc(self) -> str:
        return self.value[1]


class ServingError(DlbridgeError):
    """A request that cannot be answered.

    Args:
        message: What was wrong, one sentence.
        status: Its kind.
        retry_after: Seconds after which the same request may be answered; None where it never will be.
        where: The model, input or parameter concerned.
        hint: What to do about it.
    """

    def __init__(
        self,
        message: str,
        status: Status = Status.INVALID,
        *,
        retry_after: float | None = None,
        where: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.status = status
        self.retry_after = retry_after
