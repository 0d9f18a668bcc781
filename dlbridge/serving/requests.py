"""A request for inference and its answer, free of the protocol that they travel by."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlbridge.serving.frames import Named
from dlbridge.serving.shared_memory import Place
from dlbridge.serving.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Wanted:
    """How an output is wanted.

    Attributes:
        classes: How many of the likeliest classes, in the place of the numbers; 0 for the numbers.
        place: Shared memory that it is put into; None to send it.
    """

    classes: int = 0
    place: Place | None = None


@dataclass(slots=True)
class InferRequest:
    """A request for inference.

    Attributes:
        model: Name of the model.
        inputs: Its tensors by name.
        version: The version that is asked for; "" for the newest.
        id: The client's name of the request.
        outputs: Name of an output -> how it is wanted; None for all of them, sent.
        priority: Its level, 1 the highest; 0 for the model's own.
        timeout: How many microseconds it may wait; 0 for the model's own.
    """

    model: str
    inputs: dict[str, Tensor]
    version: str = ""
    id: str = ""
    outputs: dict[str, Wanted] | None = None
    priority: int = 0
    timeout: int = 0


@dataclass(slots=True)
class InferResponse:
    """The answer to a request.

    Attributes:
        model: Name of the model.
        version: The version that answered.
        id: The client's name of the request.
        outputs: The tensors, in the order that was asked for.
        places: Name of an output -> the shared memory that holds it, and its bytes there.
        arrived: When the request came into the queue, by ``time.perf_counter_ns``; 0 where it never did.
        sent: When it was sent to the worker.
        answered: When its outputs came back.
    """

    model: str
    version: str
    id: str
    outputs: list[Named] = field(default_factory=list)
    places: dict[str, tuple[Place, int]] = field(default_factory=dict)
    arrived: int = 0
    sent: int = 0
    answered: int = 0
