"""The processes that train together in Keras: those that ``TF_CONFIG`` names, which Ray Train sets."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

#: What starts such processes on Ray.
RAY_TRAINER = "ray.train.tensorflow:TensorflowTrainer"


class Group:
    """This process among those that train together. See ``dlbridge.training.group.Group``.

    TensorFlow's collective operations add up gradients; ``fit`` itself, and the model, know nothing of the others.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.rank, self.size = int(config["task"]["index"]), len(config["cluster"]["worker"])
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy()

    def total(self, tensors: Sequence[Any]) -> list[Any]:
        """The sums of tensors over all processes."""

        def inside(*given: Any) -> Any:
            with tf.device("CPU:0"):  # a collective operation asks where a tensor is
                placed = [tf.identity(tensor) for tensor in given]
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, placed)

        return list(self._strategy.run(inside, args=tuple(tensors)))

    def sum(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The sums of arrays over all processes."""
        summed = tf.function(lambda *given: self.total(given), autograph=False)
        return [tensor.numpy() for tensor in summed(*(tf.constant(array) for array in arrays))]


@functools.cache
def group() -> Group | None:
    """The processes that train together; None where this one is alone.

    TensorFlow takes its configuration once, before anything else is done with it.
    """
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    return Group(config) if len(config.get("cluster", {}).get("worker", ())) > 1 else None
