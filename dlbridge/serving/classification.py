"""How outputs are wanted: as their likeliest classes (the classification extension), or in shared memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dlbridge.serving.problems import ServingError
from dlbridge.serving.requests import InferResponse, Wanted
from dlbridge.serving.tensors import Tensor, join_strings, to_array


def classes(tensor: Tensor, count: int, labels: list[str] | None, where: str) -> Tensor:
    """The ``count`` largest elements of each row as strings ``score:index[:label]``, the largest first.

    Args:
        tensor: The output: numbers, whose last size is the classes.
        count: How many classes are wanted.
        labels: The labels of the classes; None where there are none.
        where: The model, for messages.

    Raises:
        ServingError: When the output has no classes.
    """
    if tensor.datatype == "BYTES" or not tensor.shape or not tensor.shape[-1]:
        raise ServingError(f"{tensor.datatype}{list(tensor.shape)} has no classes", where=where)
    scores = to_array(tensor).astype(np.float64)
    count = min(count, scores.shape[-1])
    best = np.argsort(-scores, axis=-1, kind="stable")[..., :count]
    texts = []
    for row, places in zip(scores.reshape(-1, scores.shape[-1]), best.reshape(-1, count), strict=True):
        for place in places:
            label = f":{labels[place]}" if labels is not None and place < len(labels) else ""
            texts.append(f"{row[place]:f}:{place}{label}".encode())
    return Tensor("BYTES", (*tensor.shape[:-1], count), join_strings(texts))


def deliver(response: InferResponse, wanted: Mapping[str, Wanted], labels: Mapping[str, list[str]], where: str) -> None:
    """Make classes of outputs that are wanted as such, and put those that have a place there.

    Args:
        response: The answer.
        wanted: How each output is wanted.
        labels: Output -> the labels of its classes.
        where: The model, for messages.

    Raises:
        ServingError: When an output has no classes, or does not fit the memory that it is wanted in.
    """
    for index, (name, tensor) in enumerate(response.outputs):
        how = wanted.get(name, Wanted())
        if how.classes:
            tensor = classes(tensor, how.classes, labels.get(name), where)
        if how.place is not None:
            how.place.write(tensor, f"output '{name}' of {where}")
            response.places[name] = (how.place, len(tensor.data))
        response.outputs[index] = (name, tensor)
