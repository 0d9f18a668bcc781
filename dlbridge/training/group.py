"""Training by several processes: each takes its part of the rows of every batch, and all make the same step.

The loss is a mean over rows, so one process would compute ``g = 1/n sum g_i`` from the whole batch. A process with
``m`` of the ``n`` rows computes ``1/m sum g_i`` over its own rows. Multiplied by ``m N / n``, the gradients of ``N``
processes have ``g`` as their mean, and the mean over processes is what they exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dlbridge.errors import TrainingError
from dlbridge.model import Model
from dlbridge.ops.keys import is_op
from dlbridge.training.data import Batch
from dlbridge.training.datasets.opening import Data
from dlbridge.training.spec import TrainingSpec


class Group(Protocol):
    """The processes that train together.

    Attributes:
        rank: The number of this process, from 0.
        size: How many there are.
    """

    rank: int
    size: int

    def sum(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The sums of arrays over all processes."""
        ...


@dataclass
class Shard:
    """One process' rows of each batch. A trainer reads it in the same way as a whole ``Dataset``.

    Attributes:
        data: The whole data, the same in all processes.
        group: The processes.
    """

    data: Data
    group: Group

    #: Batches must be asked for.
    is_stream = True

    @property
    def count(self) -> int:
        """The number of batches, the same in all processes."""
        return self.data.count

    @property
    def steps(self) -> tuple[dict[str, float], ...]:
        """The numbers of each batch."""
        return self.data.steps

    @property
    def seed(self) -> int:
        """The seed of the epoch's random numbers, which is another one in each process: for dropout."""
        return self.data.seed + self.group.rank

    def epoch(self, number: int, steps: Iterable[dict[str, float]] = ()) -> Shard:
        """The batches of an epoch."""
        return Shard(self.data.epoch(number, steps), self.group)

    def batches(self, convert: Callable[[np.ndarray], Any] | None = None) -> Iterator[Batch]:
        """One batch after the other, its arrays as ``convert`` makes them."""
        for batch in self.data.batches(convert):
            yield shard(batch, self.group)


def shard(batch: Batch, group: Group) -> Batch:
    """The rows of a batch that a process takes: as many as the other processes, or one more or less.

    A process that gets no row takes the first one with weight 0.
    """
    start = group.rank * batch.rows // group.size
    stop = (group.rank + 1) * batch.rows // group.size
    taken = slice(start, stop) if stop > start else slice(0, 1)
    return Batch(
        {name: array[taken] for name, array in batch.inputs.items()},
        tuple(array[taken] for array in batch.targets),
        tuple(None if array is None else array[taken] for array in batch.weights),
        stop - start,
        (stop - start) * group.size / batch.rows,
    )


def check(model: Model, spec: TrainingSpec, data: Data) -> None:
    """Check that training by several processes is the same as by one.

    Raises:
        TrainingError: When the rows of a batch are not independent of each other, or the loss is no mean over them.
    """
    for node in model.graph.all_nodes():
        if is_op(node, "BatchNormalization"):
            raise TrainingError(
                "it normalises by the statistics of a batch, of which each process has a part",
                where=node.name or node.op_type,
                hint="train it in one process, or use a normalization within rows (group, layer, instance)",
            )
    for loss in spec.losses:
        if loss.reduction == "sum":
            raise TrainingError(f"the loss {loss.op} is a sum over a batch, not a mean", hint="reduction: mean")
        if loss.op == "Own":
            raise TrainingError("of a loss of your own it is not known whether it is a mean over the rows of a batch")
        if loss.kind == "groups":
            raise TrainingError(f"the loss {loss.op} compares the rows of a batch, of which each process has a part")
        weighted = [
            name for name in ("sample_weight", "class_weights", "ignore_index") if getattr(loss, name, None) is not None
        ]
        if weighted and loss.reduction == "mean":
            raise TrainingError(
                f"the loss is a mean by {weighted[0]}, which is another number for the rows of each process",
                hint="reduction: mean_by_count",
            )


def check_rows(run: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]], data: Data, size: int) -> None:
    """Check by trying that the outputs of a row do not depend on the others of its batch.

    Args:
        run: Runs the model.
        data: What it is trained on.
        size: The number of processes.

    Raises:
        TrainingError: When they do.
    """
    batch = next(iter(data.batches()))
    if batch.rows < size:
        raise TrainingError(f"a batch has {batch.rows} rows, for {size} processes")
    whole = run(batch.inputs)
    few = max(1, batch.rows // size)
    part = run({name: array[:few] for name, array in batch.inputs.items()})
    for name, array in part.items():
        if array.shape != whole[name][:few].shape or not np.allclose(array, whole[name][:few], rtol=1e-3, atol=1e-5):
            raise TrainingError(
                f"the output '{name}' of a row depends on the other rows of its batch, of which each process has a part"
            )
