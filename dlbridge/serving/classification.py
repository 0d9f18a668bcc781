"""The classification extension: the likeliest classes of an output, in the place of its numbers."""

from __future__ import annotations

import numpy as np

from dlbridge.serving.problems import ServingError
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
    if tensor.datatype == "BYTES" or not tensor.shape:
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
