"""What a server answers when it cannot answer: one error with a status that HTTP and gRPC both have a number for."""

from __future__ import annotations

from enum import Enum

from dlbridge.errors import DlbridgeError


class Status(Enum):
    """Why a request fails: (HTTP status, name of the gRPC status, its number)."""

    INVALID = (400, "INVALID_ARGUMENT", 3)
    UNAUTHENTICATED = (401, "UNAUTHENTICATED", 16)
    NOT_FOUND = (404, "NOT_FOUND", 5)
    TOO_LARGE = (413, "RESOURCE_EXHAUSTED", 8)
    TOO_MANY = (429, "RESOURCE_EXHAUSTED", 8)
    CANCELLED = (499, "CANCELLED", 1)
    INTERNAL = (500, "INTERNAL", 13)
    UNIMPLEMENTED = (501, "UNIMPLEMENTED", 12)
    UNAVAILABLE = (503, "UNAVAILABLE", 14)
    LATE = (504, "DEADLINE_EXCEEDED", 4)

    @property
    def http(self) -> int:
        return self.value[0]

    @property
    def grpc(self) -> str:
        return self.value[1]

    @property
    def grpc_number(self) -> int:
        return self.value[2]


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
