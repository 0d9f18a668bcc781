"""A request for inference and its answer, free of the protocol that they travel by."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlbridge.serving.frames import Named
from dlbridge.serving.tensors import Tensor


@dataclass(slots=True)
class InferRequest:
    """A request for inference.

    Attributes:
        model: Name of the model.
        inputs: Its tensors by name.
        version: The version that is asked for; "" for the newest.
        id: The client's name of the request.
        outputs: Names of the outputs that are wanted, all when None; how many classes of each are (0: the tensor).
        priority: Its level, 1 the highest; 0 for the model's own.
        timeout: How many microseconds it may wait; 0 for the model's own.
    """

    model: str
    inputs: dict[str, Tensor]
    version: str = ""
    id: str = ""
    outputs: dict[str, int] | None = None
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
    """

    model: str
    version: str
    id: str
    outputs: list[Named] = field(default_factory=list)
